{{ config(unique_key='batch_id') }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('newest_contents')) }}
    union
    select batch_id from {{ changes(ref('live_batches')) }}
{% endcall %}

with counts as (
    {%- for feed in retractable_feeds() %}
    select
        batch_id,
        sum(case when reasons is null then 1 else 0 end) as valid_rows,
        sum(case when reasons is null then 0 else 1 end) as quarantined_rows
    from {{ ref('stg_' ~ feed) }}
    where {{ is_affected('batch_id') }}
    group by batch_id
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select
    delivered.feed,
    delivered.batch_id,
    case when live.batch_id is null then 'retracted' else 'live' end as status,
    delivered.delivered_rows,
    cast(coalesce(counts.valid_rows, 0) as bigint) as valid_rows,
    cast(coalesce(counts.quarantined_rows, 0) as bigint) as quarantined_rows
from {{ ref('newest_contents') }} as delivered
left join {{ ref('live_batches') }} as live on delivered.batch_id = live.batch_id
left join counts on delivered.batch_id = counts.batch_id
where {{ is_retractable('delivered.feed') }} and {{ is_affected('delivered.batch_id', 'batch_id') }}
