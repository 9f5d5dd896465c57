-- What each retry built, against what had failed: a retry repeats what did not work and what depends on it, and nothing
-- else. In Dagster somebody can ask for another selection, and then this says so.
{{ config(materialized='view') }}

with recursive attempts as (
    select
        builds.build_id,
        builds.started_at,
        builds.attempt,
        builds.code_id,
        earlier.build_id as retried_build_id,
        earlier.code_id as retried_code_id
    from {{ source('ops', 'recorded_builds') }} as builds
    inner join {{ source('ops', 'recorded_builds') }} as earlier on builds.parent_run_id = earlier.run_id
    -- After a build that never began, or was killed, Dagster knows less of what is done than the warehouse.
    where earlier.code_id <> '' and earlier.ended_at is not null
),

-- Of a failed test the table that it tested.
to_repeat as (
    select
        attempts.build_id,
        attempts.code_id,
        failures.node
    from attempts
    inner join {{ ref('failures') }} as failures on attempts.retried_build_id = failures.build_id
    where not {{ is_test('failures.node') }}
    union
    select
        attempts.build_id,
        attempts.code_id,
        dependencies.parent as node
    from attempts
    inner join {{ ref('failures') }} as failures on attempts.retried_build_id = failures.build_id
    inner join {{ source('ops', 'recorded_dependencies') }} as dependencies
        on attempts.retried_code_id = dependencies.code_id and failures.node = dependencies.node
    where {{ is_test('failures.node') }} and failures.outcome = 'failed'
),

may_repeat as (
    select
        build_id,
        code_id,
        node
    from to_repeat
    union
    select
        may_repeat.build_id,
        may_repeat.code_id,
        dependencies.node
    from may_repeat
    inner join {{ source('ops', 'recorded_dependencies') }} as dependencies
        on may_repeat.code_id = dependencies.code_id and may_repeat.node = dependencies.parent
    where not {{ is_test('dependencies.node') }}
),

did as (
    select
        attempts.build_id,
        nodes.node
    from attempts
    inner join {{ source('ops', 'recorded_nodes') }} as nodes on attempts.build_id = nodes.build_id
    where not {{ is_test('nodes.node') }} and nodes.node not like 'operation.%'
),

differences as (
    select
        did.build_id,
        did.node,
        true as is_extra
    from did
    left join may_repeat on did.build_id = may_repeat.build_id and did.node = may_repeat.node
    where may_repeat.node is null
    union all
    select
        failed.build_id,
        failed.node,
        false as is_extra
    from {{ ref('failures') }} as broken
    inner join attempts on broken.build_id = attempts.retried_build_id
    inner join to_repeat as failed on attempts.build_id = failed.build_id and broken.node = failed.node
    left join did on failed.build_id = did.build_id and failed.node = did.node
    where did.node is null
)

select
    attempts.build_id,
    attempts.retried_build_id,
    attempts.started_at,
    attempts.attempt,
    count(case when differences.is_extra then 1 end) as extra_nodes,
    min(case when differences.is_extra then differences.node end) as extra_node,
    count(case when not differences.is_extra then 1 end) as left_out_nodes,
    min(case when not differences.is_extra then differences.node end) as left_out_node
from attempts
left join differences on attempts.build_id = differences.build_id
group by
    attempts.build_id, attempts.retried_build_id, attempts.started_at, attempts.attempt
