{{ land('erasures', ['customer_id', 'requested_at']) }}
