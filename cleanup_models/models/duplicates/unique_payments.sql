-- Problem: events are delivered at least once, so that one payment is there several times, not always the same.
-- Usually patched in: a `distinct` in each query, or a dedup task between load and build.
-- Why here: which of several rows is the payment is a rule, and has to hold for every reader.
-- How it corrects itself: a payment is computed from all its live rows whenever one of them comes or goes.
{{ config(unique_key='payment_id', change_feed=['payment_id', 'order_id']) }}

{% call affected_keys() %}
    select payment_id from {{ changes(ref('stg_payments')) }} where payment_id is not null
{% endcall %}

with ranked as (
    select
        *,
        row_number() over (
            partition by payment_id order by paid_at desc, amount desc, order_id desc, kind desc
        ) as rank
    from {{ ref('stg_payments') }}
    where reasons is null and {{ is_affected('payment_id') }}
)

select
    payment_id,
    order_id,
    kind,
    amount,
    paid_at
from ranked
where rank = 1
