{{ config(materialized='table') }}

select
    product_id,
    product_name,
    category,
    list_price,
    dbt_valid_from as valid_from,
    dbt_valid_to as valid_to
from {{ ref('products_snapshot') }}
