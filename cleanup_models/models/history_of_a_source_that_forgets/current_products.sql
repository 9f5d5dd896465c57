-- The products of the newest file that counts: what the snapshot compares with what it has.
{{ config(materialized='view') }}

select
    product_id,
    product_name,
    category,
    list_price,
    as_of
from {{ ref('stg_products') }}
where load_no = (select max(load_no) from {{ ref('product_files') }} where not_applied_because is null)
