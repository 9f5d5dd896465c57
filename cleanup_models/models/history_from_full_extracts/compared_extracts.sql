-- Each extract with the one before it, by date.
{{ config(materialized='view') }}

select
    extracted_on,
    lag(extracted_on) over (order by extracted_on) as previous_extracted_on
from {{ ref('customer_extracts') }}
