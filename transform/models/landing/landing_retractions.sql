{{ config(unique_key=['_batch_id', '_load_no'], change_feed=['_batch_id']) }}

{{ land('retractions', ['batch_id', 'retracted_at']) }}
