-- A customer or an order that came late is known to what waited for it. (That what is known is there is tested beside
-- the models.)
{{ config(meta={'dagster': {'ref': {'name': 'fct_orders'}}}) }}

select
    orders.order_id,
    null as payment_id
from {{ ref('fct_orders') }} as orders
inner join {{ ref('dim_customers') }} as customers on orders.customer_id = customers.customer_id
where not orders.is_customer_known
union all
select
    payments.order_id,
    payments.payment_id
from {{ ref('fct_payments') }} as payments
inner join {{ ref('fct_orders') }} as orders on payments.order_id = orders.order_id
where not payments.is_order_known
