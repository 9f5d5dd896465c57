-- Whoever joins a history at a moment has to find at most one version, and a version that holds is the last one.
{{ config(meta={'dagster': {'ref': {'name': 'dim_customers_history'}}}) }}

with versions as (
    select
        'customer' as kind,
        customer_id as id,
        cast(valid_from as timestamp) as valid_from,
        cast(valid_to as timestamp) as valid_to
    from {{ ref('dim_customers_history') }}
    union all
    select
        'product' as kind,
        product_id as id,
        valid_from,
        valid_to
    from {{ ref('dim_products_history') }}
),

ordered as (
    select
        *,
        lead(valid_from) over (partition by kind, id order by valid_from) as next_valid_from
    from versions
)

select
    kind,
    id,
    valid_from,
    valid_to,
    next_valid_from
from ordered
where
    valid_to <= valid_from
    or valid_to > next_valid_from
    or (valid_to is null and next_valid_from is not null)
