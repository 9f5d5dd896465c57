-- The batches that count: each with its newest content, unless it is retracted.
{{ config(unique_key='batch_id', change_feed=['feed', 'batch_id']) }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('newest_contents')) }}
    union
    select retracted_batch_id as batch_id from {{ changes(ref('retracted_batches')) }}
{% endcall %}

select
    feed,
    batch_id,
    load_no
from {{ ref('newest_contents') }}
where
    {{ is_affected('batch_id') }}
    and (
        not {{ is_retractable('feed') }}
        or batch_id not in (select retracted_batch_id from {{ ref('retracted_batches') }})
    )
