{{ land('products', ['product_id', 'product_name', 'category', 'list_price', 'as_of']) }}
