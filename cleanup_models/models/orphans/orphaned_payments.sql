-- Problem: a row refers to one that has not come yet, or never will.
-- Usually patched in: an inner join that loses it, or a retry of the load until the other side is there.
-- Why here: a payment without an order is a fact to be seen, and the order may come on any later day.
-- How it corrects itself: the payment is in fct_payments from the start, and waits here; it counts in the first build
-- that has its order, because the order's arrival affects it (fct_orders.sql, fct_payments.sql).
{{ config(materialized='view') }}

select
    payment_id,
    order_id,
    signed_amount,
    paid_at
from {{ ref('fct_payments') }}
where not is_order_known
