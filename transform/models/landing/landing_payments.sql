{{ land('payments', ['payment_id', 'order_id', 'kind', 'amount', 'paid_at']) }}
