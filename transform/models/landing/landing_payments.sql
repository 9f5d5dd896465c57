{{ config(unique_key=['_batch_id', '_load_no'], change_feed=['_batch_id']) }}

{{ land('payments', ['payment_id', 'order_id', 'kind', 'amount', 'paid_at']) }}
