{{ config(materialized='view') }}

select
    landing._batch_id as batch_id,
    landing._row_no as row_no,
    landing.batch_id as retracted_batch_id,
    {{ to_timestamp('landing.retracted_at') }} as retracted_at,
    {{ reasons({'missing_key': 'landing.batch_id is null'}, 'landing._is_malformed') }} as reasons
from {{ ref('landing_retractions') }} as landing
inner join {{ ref('newest_contents') }} as newest
    on landing._load_no = newest.load_no and landing._batch_id = newest.batch_id
where newest.feed = 'retractions' and landing._row_no > 0
