{{ config(unique_key=['_batch_id', '_load_no'], change_feed=['_batch_id']) }}

{{ land('products', ['product_id', 'product_name', 'category', 'list_price', 'as_of']) }}
