-- Every table that stores personal values, from landing to the marts.
{{ config(meta={'dagster': {'ref': {'name': 'dim_customers'}}}) }}

{%- set tables = [
    'landing_customers', 'stg_customers', 'customer_changes', 'current_customers', 'dim_customers',
    'dim_customers_history'
] %}
{% for table in tables -%}
select
    '{{ table }}' as table_name,
    customer_id
from {{ ref(table) }}
where
    customer_id in (select customer_id from {{ ref('erased_customers') }})
    and (name is not null or email is not null)
{{ 'union all' if not loop.last }}
{% endfor %}
