{{ config(materialized='view') }}

select
    _load_no as load_no,
    _row_no as row_no,
    _is_malformed as is_malformed,
    product_id,
    product_name,
    category,
    {{ to_money('list_price') }} as list_price,
    {{ to_timestamp('as_of') }} as as_of
from {{ ref('landing_products') }}
where _row_no > 0
