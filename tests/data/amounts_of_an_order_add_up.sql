-- What an order was paid is kept in two tables, which different changes bring up to date.
{{ config(meta={'dagster': {'ref': {'name': 'fct_orders'}}}) }}

with payments as (
    select
        order_id,
        sum(signed_amount) as paid_amount
    from {{ ref('fct_payments') }}
    group by order_id
)

select
    orders.order_id,
    orders.order_amount,
    orders.paid_amount,
    orders.open_amount,
    payments.paid_amount as paid_amount_of_payments
from {{ ref('fct_orders') }} as orders
left join payments on orders.order_id = payments.order_id
where
    orders.order_amount <> orders.quantity * orders.unit_price
    or orders.open_amount <> orders.order_amount - orders.paid_amount
    or orders.paid_amount <> coalesce(payments.paid_amount, 0)
