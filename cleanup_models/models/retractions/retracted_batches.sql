-- Problem: a batch should never have been delivered, and its rows are in every table by now.
-- Usually patched in: a script that deletes by batch, table after table, and a note not to load that file again.
-- Why here: a retraction is data like any other: it comes early or late, is re-delivered, and ends.
-- How it corrects itself: a batch named here is not live (live_batches.sql) as long as the newest content of the file
-- that retracted it still names it.
{{ config(unique_key='batch_id', change_feed=['retracted_batch_id']) }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('newest_contents')) }} where feed = 'retractions'
{% endcall %}

select distinct
    batch_id,
    retracted_batch_id
from {{ ref('stg_retractions') }}
where reasons is null and {{ is_affected('batch_id') }}
