{{ config(unique_key='order_id', change_feed=['order_id', 'ordered_on', '_customer_country']) }}

{% call affected_keys() %}
    select order_id from {{ changes(ref('latest_order_changes')) }}
    union
    select order_id from {{ changes(ref('unique_payments')) }}
    union
    -- Of a customer only the country is here, and whether he is known; most changes are of something else.
    select stored.order_id
    from {{ this }} as stored
    inner join {{ changes(ref('current_customers')) }} as changed on stored.customer_id = changed.customer_id
    left join {{ ref('current_customers') }} as customers on stored.customer_id = customers.customer_id
    where stored._customer_country <> coalesce(customers.country_code, 'unknown')
{% endcall %}

with paid as (
    select
        order_id,
        sum(case when kind = 'refund' then -amount else amount end) as paid_amount
    from {{ ref('unique_payments') }}
    where {{ is_affected('order_id') }}
    group by order_id
),

orders as (
    select
        *,
        quantity * unit_price as order_amount
    from {{ ref('existing_orders') }}
    where {{ is_affected('order_id') }}
)

select
    orders.order_id,
    orders.customer_id,
    customers.customer_id is not null as is_customer_known,
    orders.product_id,
    orders.status,
    statuses.is_revenue,
    orders.ordered_at,
    cast(orders.ordered_at as date) as ordered_on,
    cast(orders.quantity as integer) as quantity,
    orders.unit_price,
    cast(orders.order_amount as decimal(18, 2)) as order_amount,
    cast(coalesce(paid.paid_amount, 0) as decimal(18, 2)) as paid_amount,
    cast(orders.order_amount - coalesce(paid.paid_amount, 0) as decimal(18, 2)) as open_amount,
    coalesce(customers.country_code, 'unknown') as _customer_country
from orders
inner join {{ ref('order_statuses') }} as statuses on orders.status = statuses.status
left join {{ ref('current_customers') }} as customers on orders.customer_id = customers.customer_id
left join paid on orders.order_id = paid.order_id
