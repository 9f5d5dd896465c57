{{ config(unique_key=['_batch_id', '_load_no'], change_feed=['_batch_id']) }}

{{ land('erasures', ['customer_id', 'requested_at']) }}
