-- Informs: an order may come after its payment, or never; one that is gone leaves its payments here.
{{ config(severity='warn') }}

select
    payment_id,
    order_id,
    signed_amount,
    paid_at
from {{ ref('orphaned_payments') }}
