-- Problem: a change log arrives in pieces and in any order, and an older change overwrites a newer one.
-- Usually patched in: a sort before the load, a rule that files be processed one at a time, a reload of the day.
-- Why here: which change is the latest is in the rows (`changed_at`, `change_no`), not in when they came.
-- How it corrects itself: an order is computed from all its live changes whenever one of them comes or goes. Of
-- different rows with the same position any will do that depends on the values alone.
{{ config(unique_key='order_id', change_feed=['order_id']) }}

{% call affected_keys() %}
    select order_id from {{ changes(ref('stg_orders')) }} where order_id is not null
{% endcall %}

with ranked as (
    select
        *,
        row_number() over (
            partition by order_id
            order by
                changed_at desc, change_no desc, op desc, customer_id desc, product_id desc, status desc,
                quantity desc, unit_price desc, ordered_at desc
        ) as rank
    from {{ ref('stg_orders') }}
    where reasons is null and {{ is_affected('order_id') }}
)

select
    order_id,
    op,
    customer_id,
    product_id,
    status,
    quantity,
    unit_price,
    ordered_at,
    changed_at,
    change_no
from ranked
where rank = 1
