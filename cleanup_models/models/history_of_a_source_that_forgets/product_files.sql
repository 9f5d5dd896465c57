-- Which contents of the products file count: a broken one, or one that is not newer than the last that counted, does
-- not. In the order in which builds saw them, which for this source is all that there is.
{{ config(materialized='view', post_hook='{{ report_products_not_applied() }}') }}

with contents as (
    select
        files._load_no as load_no,
        count(distinct products.as_of) = 1 as has_one_moment,
        max(products.as_of) as as_of,
        count(products.row_no) = 0 as is_empty,
        coalesce(bool_or(products.is_malformed), false) as is_malformed,
        count(products.row_no) > count(products.as_of) as lacks_moment,
        count(products.row_no) > count(distinct products.product_id) as lacks_key
    from {{ ref('landing_products') }} as files
    left join {{ ref('stg_products') }} as products on files._load_no = products.load_no
    where files._row_no = 0
    group by files._load_no
),

judged as (
    select
        load_no,
        as_of,
        case
            when is_empty then 'it has no rows'
            when is_malformed then 'it has a malformed line'
            when lacks_moment then 'a row has no as_of, or one that is no timestamp'
            when not has_one_moment then 'as_of is not the same on every row'
            when lacks_key then 'a product_id is empty or repeated'
        end as fault
    from contents
),

compared as (
    select
        *,
        max(case when fault is null then as_of end) over (
            order by load_no rows between unbounded preceding and 1 preceding
        ) as last_as_of
    from judged
)

select
    load_no,
    as_of,
    coalesce(fault, case when as_of <= last_as_of then 'its as_of is not newer than the last one' end)
        as not_applied_because
from compared
