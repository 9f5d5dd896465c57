-- From the build in which something stops working to the one in which all of it works again: one incident, however many
-- attempts, nodes and causes. `explanation` is what `make why` prints and an alert says.
{{ config(materialized='view') }}

{%- set newline = "'\n'" %}

with troubles as (
    select
        build_id,
        started_at,
        node,
        outcome,
        cause,
        evidence,
        message,
        last_worked_at,
        mended_at
    from {{ ref('failures') }}
    union all
    select
        build_id,
        started_at,
        coalesce(left_out_node, extra_node) as node,
        'other work' as outcome,
        'wrong_retry' as cause,
        concat(
            'this retry ',
            case when left_out_nodes > 0 then concat('left out ', left_out_nodes, ' of what had failed') end,
            case when left_out_nodes > 0 and extra_nodes > 0 then ', and ' end,
            case when extra_nodes > 0 then concat('built ', extra_nodes, ' that had not failed') end
        ) as evidence,
        null as message,
        null as last_worked_at,
        started_at as mended_at
    from {{ ref('retries') }}
    where extra_nodes > 0 or left_out_nodes > 0
),

in_order as (
    select
        *,
        max(coalesce(mended_at, timestamp '9999-12-31 00:00:00')) over (
            order by started_at, node rows between unbounded preceding and 1 preceding
        ) as open_until
    from troubles
),

numbered as (
    select
        *,
        count(case when open_until is null or started_at > open_until then 1 end) over (
            order by started_at, node rows between unbounded preceding and current row
        ) as incident_no
    from in_order
),

-- A cause is told once, where it was first seen.
first_seen as (
    select
        numbered.*,
        row_number() over (
            partition by numbered.incident_no, numbered.node, numbered.cause order by numbered.started_at
        ) as rank,
        row_number() over (
            partition by numbered.incident_no, numbered.cause = 'failed_dependency'
            order by numbered.started_at, nodes.position, numbered.node
        ) as place
    from numbered
    left join {{ source('ops', 'recorded_nodes') }} as nodes
        on numbered.build_id = nodes.build_id and numbered.node = nodes.node
),

told as (
    select
        first_seen.incident_no,
        first_seen.place,
        first_seen.cause,
        {{ name_of('first_seen.node') }} as name,
        concat(
            {{ name_of('first_seen.node') }}, ' ',
            case first_seen.outcome
                when 'failed' then 'failed'
                when 'unfinished' then 'was not finished'
                else 'was dealt with wrongly'
            end,
            ' at ', strftime(first_seen.started_at, '%Y-%m-%d %H:%M:%S'), ' UTC, in the build of ', builds.started_by,
            case
                when builds.run_id is not null then concat(' (run ', builds.run_id, ', attempt ', builds.attempt, ')')
            end,
            '.', {{ newline }},
            '  Why:   ', first_seen.cause, ': ', first_seen.evidence,
            case
                when first_seen.last_worked_at is not null
                    then concat(' (last worked ', strftime(first_seen.last_worked_at, '%Y-%m-%d %H:%M:%S'), ')')
            end,
            '.',
            case
                when first_seen.message is not null
                    then concat(
                        {{ newline }}, '  It said: ',
                        replace(first_seen.message, {{ newline }}, concat({{ newline }}, '   '))
                    )
            end,
            {{ newline }}, '  To do: ',
            case first_seen.cause
                when 'model_change'
                    then 'look at the change of code, mend it or take it back; the next build does the rest.'
                when 'bad_data'
                    then 'look at the rows (dbt names the file with a test''s SQL); ask the source to deliver anew.'
                when 'stale_input'
                    then 'ask the source where its delivery is; the build after it does the rest.'
                when 'environment'
                    then 'see to the machine (memory, disk, who has the warehouse open), and build again.'
                when 'wrong_retry'
                    then 'start an ordinary build, which makes up for it; a retry needs no selection.'
            end
        ) as text
    from first_seen
    inner join {{ source('ops', 'recorded_builds') }} as builds
        on first_seen.build_id = builds.build_id
    where first_seen.cause <> 'failed_dependency' and first_seen.rank = 1
),

roots as (
    select
        incident_no,
        max_by(cause, -place) as cause,
        max_by(name, -place) as node,
        string_agg(text, {{ newline }} order by place) as text
    from told
    group by incident_no
),

blocked as (
    select
        incident_no,
        count(*) as total,
        string_agg(name, ', ' order by name) as names
    from (
        select distinct
            incident_no,
            {{ name_of('node') }} as name
        from numbered
        where cause = 'failed_dependency' and not {{ is_test('node') }} and node not like 'operation.%'
    ) as waiting
    group by incident_no
),

attempts as (
    select
        incident_no,
        count(*) as total,
        string_agg(run_id, ' ' order by started_at) as runs,
        string_agg(
            concat(
                '  ', strftime(started_at, '%H:%M:%S'),
                case when attempt > 1 then concat(' attempt ', attempt) else ' build' end,
                ' by ', started_by, ': ', failed, ' failed, ', waiting, ' waited'
            ),
            {{ newline }}
            order by started_at
        ) as text
    from (
        select
            numbered.incident_no,
            builds.started_at,
            builds.attempt,
            builds.started_by,
            builds.run_id,
            count(case when numbered.cause not in ('failed_dependency', 'wrong_retry') then 1 end) as failed,
            count(case when numbered.cause = 'failed_dependency' then 1 end) as waiting
        from numbered
        inner join {{ source('ops', 'recorded_builds') }} as builds on numbered.build_id = builds.build_id
        group by numbered.incident_no, builds.started_at, builds.attempt, builds.started_by, builds.run_id
    ) as counts
    group by incident_no
),

spans as (
    select
        incident_no,
        min(started_at) as began_at,
        case when count(*) = count(mended_at) then max(mended_at) end as over_at
    from numbered
    group by incident_no
)

select
    spans.incident_no,
    spans.began_at,
    spans.over_at,
    roots.node,
    roots.cause,
    coalesce(blocked.names, '') as blocks,
    attempts.total as builds,
    attempts.runs,
    concat(
        roots.text,
        case
            when blocked.total > 0
                then concat(
                    {{ newline }}, 'It blocks ', blocked.total,
                    case blocked.total
                        when 1 then ' table, which stays as it was: ' else ' tables, which stay as they were: '
                    end,
                    blocked.names, '.'
                )
        end,
        case when attempts.total > 1 then concat({{ newline }}, 'What was tried:', {{ newline }}, attempts.text) end,
        case
            when spans.over_at is not null
                then concat(
                    {{ newline }}, 'It is over since the build of ',
                    strftime(spans.over_at, '%Y-%m-%d %H:%M:%S'), ' UTC.'
                )
        end
    ) as explanation
from spans
inner join roots on spans.incident_no = roots.incident_no
inner join attempts on spans.incident_no = attempts.incident_no
left join blocked on spans.incident_no = blocked.incident_no
