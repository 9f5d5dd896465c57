{{ config(unique_key='batch_id', change_feed=['order_id']) }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('live_batches')) }} where feed = 'orders'
{% endcall %}

with live_rows as (
    select
        landing.*,
        coalesce(landing.op = 'D', false) as is_delete
    from {{ ref('landing_orders') }} as landing
    inner join {{ ref('live_batches') }} as live
        on landing._load_no = live.load_no and landing._batch_id = live.batch_id
    where live.feed = 'orders' and landing._row_no > 0 and {{ is_affected('batch_id') }}
),

cast_rows as (
    select
        _batch_id as batch_id,
        _row_no as row_no,
        _is_malformed as is_malformed,
        is_delete,
        op,
        order_id,
        customer_id,
        product_id,
        status,
        {{ to_whole_number('quantity') }} as quantity,
        {{ to_money('unit_price') }} as unit_price,
        {{ to_timestamp('ordered_at') }} as ordered_at,
        {{ to_timestamp('changed_at') }} as changed_at,
        {{ to_whole_number('change_no') }} as change_no
    from live_rows
)

select
    batch_id,
    row_no,
    op,
    order_id,
    customer_id,
    product_id,
    status,
    quantity,
    unit_price,
    ordered_at,
    changed_at,
    change_no,
    {{ reasons({
        'bad_amount': 'not is_delete and (unit_price is null or unit_price < 0)',
        'bad_change_no': 'change_no is null',
        'bad_op': "op is null or op not in ('I', 'U', 'D')",
        'bad_quantity': 'not is_delete and (quantity is null or quantity not between 1 and 999999)',
        'bad_timestamp': 'changed_at is null or (not is_delete and ordered_at is null)',
        'missing_key': 'order_id is null',
        'missing_reference': 'not is_delete and (customer_id is null or product_id is null)',
        'unknown_status': 'not is_delete and (' ~ is_unknown('status', ref('order_statuses')) ~ ')',
    }) }} as reasons
from cast_rows
