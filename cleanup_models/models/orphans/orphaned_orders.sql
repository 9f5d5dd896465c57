-- Orders whose customer is in no extract yet; see orphaned_payments.sql.
{{ config(materialized='view') }}

select
    order_id,
    customer_id,
    ordered_at
from {{ ref('fct_orders') }}
where not is_customer_known
