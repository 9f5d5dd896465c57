-- Informs: a customer may come after the order, and an extract that stays away shows here first.
{{ config(severity='warn') }}

select
    order_id,
    customer_id,
    ordered_at
from {{ ref('orphaned_orders') }}
