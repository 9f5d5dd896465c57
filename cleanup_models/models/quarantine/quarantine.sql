-- Problem: a row that breaks a rule stops the load, or is dropped and missed by nobody until the audit.
-- Usually patched in: a try/except around the load, a "bad rows" file on some disk.
-- Why here: what makes a row valid is a rule (staging); that a bad one is kept and seen follows from it.
-- How it corrects itself: a batch's quarantined rows are computed from its live rows; a re-delivery or a retraction
-- takes them away, a change of the rules judges all anew. Only codes are shown, never values.
{{ config(schema='marts', contract={'enforced': true}, unique_key='batch_id') }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('live_batches')) }}
{% endcall %}

{% for feed in feeds() -%}
select
    '{{ feed }}' as feed,
    batch_id,
    reasons,
    row_no
from {{ ref('stg_' ~ feed) }}
where reasons is not null and {{ is_affected('batch_id') }}
{{ 'union all' if not loop.last }}
{% endfor %}
