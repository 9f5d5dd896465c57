{{ land('retractions', ['batch_id', 'retracted_at']) }}
