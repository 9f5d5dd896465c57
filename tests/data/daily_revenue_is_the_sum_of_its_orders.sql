-- An order that moved to another day or country has to be gone from where it was.
{{ config(meta={'dagster': {'ref': {'name': 'fct_daily_revenue'}}}) }}

with orders as (
    select
        orders.ordered_on,
        coalesce(customers.country_code, 'unknown') as country_code,
        count(*) as orders,
        sum(case when orders.is_revenue then orders.order_amount else 0 end) as revenue,
        sum(orders.paid_amount) as paid_amount
    from {{ ref('fct_orders') }} as orders
    left join {{ ref('dim_customers') }} as customers on orders.customer_id = customers.customer_id
    group by orders.ordered_on, coalesce(customers.country_code, 'unknown')
)

select
    daily.ordered_on,
    daily.country_code,
    orders.ordered_on as ordered_on_of_orders,
    orders.country_code as country_code_of_orders
from {{ ref('fct_daily_revenue') }} as daily
full outer join orders on daily.ordered_on = orders.ordered_on and daily.country_code = orders.country_code
where
    daily.orders is distinct from orders.orders
    or daily.revenue is distinct from orders.revenue
    or daily.paid_amount is distinct from orders.paid_amount
