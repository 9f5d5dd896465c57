{{ land('orders', [
    'op', 'order_id', 'customer_id', 'product_id', 'status', 'quantity',
    'unit_price', 'ordered_at', 'changed_at', 'change_no'
]) }}
