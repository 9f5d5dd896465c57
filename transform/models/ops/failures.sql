-- What did not work, build by build, and why. The evidence is what was recorded: codes, dependencies, outcomes; which
-- message is that of the machine and not of the data is the only guess.
{{ config(materialized='view') }}

with recursive outcomes as (
    select
        nodes.build_id,
        nodes.node,
        nodes.message,
        builds.started_at,
        builds.code_id,
        case
            when nodes.status in ('success', 'pass', 'warn', 'no-op', 'reused') then 'worked'
            when nodes.status = 'skipped' then 'skipped'
            when nodes.status is not null then 'failed'
            when tables.node is not null then 'worked'
            else 'unfinished'
        end as outcome
    from {{ source('ops', 'recorded_nodes') }} as nodes
    inner join {{ source('ops', 'recorded_builds') }} as builds on nodes.build_id = builds.build_id
    left join {{ source('ops', 'recorded_tables') }} as tables
        on nodes.build_id = tables.build_id and nodes.node = tables.node
),

in_order as (
    select
        *,
        max(case when outcome = 'worked' then started_at end) over (
            partition by node order by started_at rows between unbounded preceding and 1 preceding
        ) as last_worked_at,
        min(case when outcome = 'worked' then started_at end) over (
            partition by node order by started_at rows between 1 following and unbounded following
        ) as worked_again_at
    from outcomes
),

-- A test that a killed build did not come to has not failed.
broken as (
    select * from in_order where outcome <> 'worked' and (outcome <> 'unfinished' or not {{ is_test('node') }})
),

-- Each broken node with all that it is computed from, itself included.
lineage as (
    select distinct
        code_id,
        node,
        node as ancestor
    from broken
    union
    select
        lineage.code_id,
        lineage.node,
        dependencies.parent as ancestor
    from lineage
    inner join {{ source('ops', 'recorded_dependencies') }} as dependencies
        on lineage.code_id = dependencies.code_id and lineage.ancestor = dependencies.node
),

-- What a node waited for: an ancestor that is broken itself, or one with a test that failed.
waited_for as (
    select
        broken.build_id,
        broken.node,
        min(culprits.node) as root_node
    from broken
    inner join lineage on broken.code_id = lineage.code_id and broken.node = lineage.node
    inner join broken as culprits
        on broken.build_id = culprits.build_id and broken.node <> culprits.node
    left join {{ source('ops', 'recorded_dependencies') }} as tested
        on
            culprits.code_id = tested.code_id
            and culprits.node = tested.node
            and {{ is_test('culprits.node') }}
            and lineage.ancestor = tested.parent
    where
        (culprits.node = lineage.ancestor or (tested.node is not null and culprits.outcome = 'failed'))
        and (
            (broken.outcome = 'skipped' and culprits.outcome = 'failed')
            -- Of what a killed build left, the first in line.
            or (
                broken.outcome = 'unfinished'
                and culprits.outcome = 'unfinished'
                and not exists (
                    select 1
                    from {{ source('ops', 'recorded_dependencies') }} as dependencies
                    inner join broken as earlier
                        on dependencies.parent = earlier.node and earlier.build_id = culprits.build_id
                    where dependencies.code_id = culprits.code_id and dependencies.node = culprits.node
                )
            )
        )
    group by broken.build_id, broken.node
),

-- What was other code when the node last worked.
changed_code as (
    select
        broken.build_id,
        broken.node,
        min({{ name_of('lineage.ancestor') }}) as changed,
        count(*) as total
    from broken
    inner join {{ source('ops', 'recorded_builds') }} as last_builds on broken.last_worked_at = last_builds.started_at
    inner join lineage on broken.code_id = lineage.code_id and broken.node = lineage.node
    inner join {{ source('ops', 'recorded_code') }} as code
        on broken.code_id = code.code_id and lineage.ancestor = code.node
    left join {{ source('ops', 'recorded_code') }} as last_code
        on last_builds.code_id = last_code.code_id and lineage.ancestor = last_code.node
    where code.fingerprint is distinct from last_code.fingerprint
    group by broken.build_id, broken.node
),

-- Feeds that were on time when the node last worked, and are late now.
late_feeds as (
    select
        broken.build_id,
        broken.node,
        split_part(lineage.ancestor, '.', 4) as feed,
        max(case when landed_in.started_at <= broken.started_at then landed.newest_delivery end) as newest_delivery
    from broken
    inner join {{ source('ops', 'recorded_builds') }} as last_builds on broken.last_worked_at = last_builds.started_at
    inner join lineage on broken.code_id = lineage.code_id and broken.node = lineage.node
    inner join {{ source('ops', 'recorded_dependencies') }} as tests
        on
            broken.code_id = tests.code_id
            and lineage.ancestor = tests.parent
            and tests.node like 'test.%.source_on_time_%'
    inner join {{ source('ops', 'recorded_nodes') }} as late
        on broken.build_id = late.build_id and tests.node = late.node
    inner join {{ source('ops', 'recorded_nodes') }} as earlier
        on last_builds.build_id = earlier.build_id and tests.node = earlier.node
    inner join {{ source('ops', 'recorded_dependencies') }} as readers
        on broken.code_id = readers.code_id and lineage.ancestor = readers.parent
    left join {{ source('ops', 'recorded_tables') }} as landed on readers.node = landed.node
    left join {{ source('ops', 'recorded_builds') }} as landed_in on landed.build_id = landed_in.build_id
    where late.status = 'warn' and earlier.status = 'pass'
    group by broken.build_id, broken.node, lineage.ancestor
),

late_feed as (
    select
        build_id,
        node,
        min(feed) as feed,
        min_by(newest_delivery, feed) as newest_delivery
    from late_feeds
    group by build_id, node
),

-- A node that is in the code no longer cannot work again.
gone as (
    select
        broken.node,
        min(builds.started_at) as gone_at
    from broken
    -- Of what a build that could not begin had for code nothing is known.
    inner join {{ source('ops', 'recorded_builds') }} as builds
        on broken.started_at < builds.started_at and builds.code_id <> ''
    left join {{ source('ops', 'recorded_code') }} as code
        on builds.code_id = code.code_id and broken.node = code.node
    where code.node is null
    group by broken.node
),

caused as (
    select
        broken.build_id,
        broken.started_at,
        broken.node,
        broken.outcome,
        broken.message,
        broken.last_worked_at,
        least(broken.worked_again_at, gone.gone_at) as mended_at,
        waited_for.root_node,
        changed_code.changed,
        changed_code.total as changes,
        late_feed.feed,
        late_feed.newest_delivery,
        case
            when broken.outcome = 'skipped' or waited_for.root_node is not null then 'failed_dependency'
            when broken.outcome = 'unfinished' or {{ is_of_the_machine('broken.message') }} then 'environment'
            when broken.node like 'unit_test.%' then 'model_change'
            when broken.last_worked_at is null or changed_code.total > 0 then 'model_change'
            when late_feed.feed is not null and broken.message not like '%cannot be read%' then 'stale_input'
            else 'bad_data'
        end as cause
    from broken
    left join waited_for on broken.build_id = waited_for.build_id and broken.node = waited_for.node
    left join changed_code on broken.build_id = changed_code.build_id and broken.node = changed_code.node
    left join late_feed on broken.build_id = late_feed.build_id and broken.node = late_feed.node
    left join gone on broken.node = gone.node
)

select
    build_id,
    started_at,
    node,
    outcome,
    message,
    last_worked_at,
    mended_at,
    root_node,
    cause,
    case cause
        when 'failed_dependency'
            then concat('it waits for ', coalesce({{ name_of('root_node') }}, 'what was not built'))
        when 'environment'
            then case outcome
                when 'unfinished'
                    then 'the build ended without a word, this under way or next: it was killed, or the disk was full'
                else 'the machine said so, not the data'
            end
        when 'model_change'
            then case
                when node like 'unit_test.%' then 'a unit test knows no data, so it is the model or the test'
                when last_worked_at is null then 'it has never worked'
                when changes > 1 then concat('the code of ', changed, ' and ', changes - 1, ' more changed since')
                else concat('the code of ', changed, ' has changed since')
            end
        when 'stale_input'
            then concat(
                'no delivery of ', feed, ' since ', coalesce(newest_delivery, 'ever'),
                ', and it is late; no code has changed since'
            )
        else 'no code that it depends on has changed since, so what changed is what came'
    end as evidence
from caused
