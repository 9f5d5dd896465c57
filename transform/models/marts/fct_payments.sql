{{ config(unique_key='payment_id', change_feed=['payment_id']) }}

{% call affected_keys() %}
    select payment_id from {{ changes(ref('unique_payments')) }}
    union
    select payments.payment_id
    from {{ ref('unique_payments') }} as payments
    inner join {{ changes(ref('fct_orders')) }} as orders on payments.order_id = orders.order_id
{% endcall %}

select
    payments.payment_id,
    payments.order_id,
    payments.kind,
    payments.amount,
    cast(case when payments.kind = 'refund' then -payments.amount else payments.amount end as decimal(18, 2))
        as signed_amount,
    payments.paid_at,
    orders.order_id is not null as is_order_known
from {{ ref('unique_payments') }} as payments
left join {{ ref('fct_orders') }} as orders on payments.order_id = orders.order_id
where {{ is_affected('payments.payment_id', 'payment_id') }}
