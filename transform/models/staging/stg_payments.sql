{{ config(unique_key='batch_id', change_feed=['payment_id']) }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('live_batches')) }} where feed = 'payments'
{% endcall %}

with cast_rows as (
    select
        landing._batch_id as batch_id,
        landing._row_no as row_no,
        landing._is_malformed as is_malformed,
        landing.payment_id,
        landing.order_id,
        landing.kind,
        {{ to_money('landing.amount') }} as amount,
        {{ to_timestamp('landing.paid_at') }} as paid_at
    from {{ ref('landing_payments') }} as landing
    inner join {{ ref('live_batches') }} as live
        on landing._load_no = live.load_no and landing._batch_id = live.batch_id
    where live.feed = 'payments' and landing._row_no > 0 and {{ is_affected('batch_id') }}
)

select
    batch_id,
    row_no,
    payment_id,
    order_id,
    kind,
    amount,
    paid_at,
    {{ reasons({
        'bad_amount': 'amount is null or amount <= 0',
        'bad_kind': "kind is null or kind not in ('charge', 'refund')",
        'bad_timestamp': 'paid_at is null',
        'missing_key': 'payment_id is null',
        'missing_reference': 'order_id is null',
    }) }} as reasons
from cast_rows
