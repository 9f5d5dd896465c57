-- Informs: a retraction may come before its batch, but a mistyped path looks the same.
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'landing_audit'}}}) }}

select
    retractions.batch_id,
    retractions.retracted_batch_id
from {{ ref('retracted_batches') }} as retractions
left join {{ ref('landing_audit') }} as audit on retractions.retracted_batch_id = audit.batch_id
where audit.batch_id is null
