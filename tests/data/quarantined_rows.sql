-- Informs: somebody should ask the source to deliver these batches again.
{{ config(severity='warn') }}

select
    feed,
    batch_id,
    row_no,
    reasons
from {{ ref('quarantine') }}
