{#
    Every build records itself in the schema `ops`: when it starts, who started it, of which code and what it is to build;
    when it ends, what came of each node. So a build that was killed is there, without its end. Only here may a macro ask
    for the clock and for who started the run, because nothing but the models in transform/models/ops reads what it writes.
#}

{# A hook before each build. #}
{% macro record_start() %}
    {% if execute %}
    {% do run_query(create_records()) %}
    {% do adapter.dispatch('record_unopened')() %}
    {% set nodes = [] %}
    {% set dependencies = [] %}
    {% for node in graph.nodes.values() if node.resource_type in ('model', 'snapshot', 'seed', 'test') %}
        {% do nodes.append([node.unique_id, logic_fingerprint(node)]) %}
        {% for parent in node.depends_on.get('nodes', []) %}
            {% do dependencies.append([node.unique_id, parent]) %}
        {% endfor %}
    {% endfor %}
    {# dbt's graph leaves out unit tests: `unit_test.project.model.name`. #}
    {% for test in selected_resources if test.startswith('unit_test.') %}
        {% do dependencies.append([test, (['model'] + test.split('.')[1:3]) | join('.')]) %}
    {% endfor %}
    {# What a build does last waits for all of it. #}
    {% for node in nodes %}
        {% do dependencies.append([ending(), node[0]]) %}
    {% endfor %}
    {% set code_id = local_md5(tojson([nodes, dependencies])) %}
    {% set known = run_query("select 1 from ops.recorded_code where code_id = '" ~ code_id ~ "' limit 1") %}
    {% if not known | length %}
        {% do run_query('insert into ops.recorded_code ' ~ rows_of(code_id, nodes)) %}
        {% do run_query('insert into ops.recorded_dependencies ' ~ rows_of(code_id, dependencies)) %}
    {% endif %}
    {# What Dagster says of its run; plain dbt has none. #}
    {% set run = fromjson(dbt_metadata_envs.get('DAGSTER_RUN', '{}')) %}
    {# Not when dbt was started: it may have waited for the warehouse, while others built. #}
    {% set began_at = modules.datetime.datetime.now(modules.pytz.utc).strftime('%Y-%m-%d %H:%M:%S.%f') %}
    insert into ops.recorded_builds values {{ build_values(
        invocation_id, began_at, none, invocation_args_dict.get('which') | string,
        (invocation_args_dict.get('select') or []) | join(' '), run, code_id
    ) }};
    {# Builds that could not open the warehouse are recorded too, and over when one can. #}
    {% set selected = [[opening(), 0, 'success', none, none], [ending(), none, none, none, none]] %}
    {% for node in selected_resources if node in graph.nodes or node.startswith('unit_test.') %}
        {% do selected.append([node, none, none, none, none]) %}
    {% endfor %}
    {{ insert_nodes(invocation_id, selected) }};
    {% endif %}
{% endmacro %}

{# A row of recorded_builds; `run` is what Dagster says of its run, empty for plain dbt. #}
{% macro build_values(build_id, started_at, ended_at, command, selection, run, code_id) -%}
    {%- set values = [
        build_id, started_at, ended_at, command, selection, run.get('run_id'), run.get('dagster/parent_run_id'),
        run.get('dagster/root_run_id'), run.get('dagster/retry_number', 0) | int + 1, who_started(run), code_id
    ] -%}
    {{ rows_of(values[0], [values[1:]]) | trim | replace('values', '', 1) }}
{%- endmacro %}

{% macro insert_nodes(build_id, nodes) -%}
    insert into ops.recorded_nodes (build_id, node, position, status, message, seconds) {{ rows_of(build_id, nodes) }}
{%- endmacro %}

{% macro opening() %}
    {{ return('operation.' ~ project_name ~ '.opening_the_warehouse') }}
{% endmacro %}

{% macro ending() %}
    {{ return('operation.' ~ project_name ~ '.ending_the_build') }}
{% endmacro %}

{% macro default__record_unopened() %}
{% endmacro %}

{% macro who_started(run) %}
    {% if run.get('dagster/schedule_name') %}
        {{ return('the schedule ' ~ run['dagster/schedule_name']) }}
    {% elif run.get('dagster/sensor_name') %}
        {{ return('the sensor ' ~ run['dagster/sensor_name']) }}
    {% endif %}
    {{ return('a person, in Dagster' if run else 'a person, with dbt') }}
{% endmacro %}

{# A hook after each model, snapshot and seed, in its transaction: how many rows it has now, and how new they can be. A view
   is not counted, which would run it. dbt says the same in the line of the table, and Dagster with it. #}
{% macro record_table() %}
    {% if execute %}
    {% set landing = landing_upstream(graph.nodes[model.unique_id]) %}
    {% set record %}
        insert into ops.recorded_tables
        select
            '{{ invocation_id }}',
            '{{ model.unique_id }}',
            {{ 'null' if model.config.materialized == 'view' else '(select count(*) from ' ~ this ~ ')' }},
            {% if model.unique_id in landing %}
            (select max(nullif(split_part(_batch_id, '/', 2), 'current.csv')) from {{ this }} where _row_no = 0)
            {% else %}
            (select max(newest_delivery) from ops.recorded_tables where node in ('{{ landing | join("', '") }}'))
            {% endif %}
        returning total_rows, newest_delivery
    {% endset %}
    {% set table = run_query(record)[0] %}
    {% set said = [] %}
    {% do said.append(table['total_rows'] ~ ' rows') if table['total_rows'] is not none %}
    {% do said.append('newest delivery ' ~ table['newest_delivery']) if table['newest_delivery'] %}
    {% if said %}
        {% do store_raw_result('main', message=said | join(', '), code='OK', rows_affected=table['total_rows']) %}
    {% endif %}
    {% if dbt_metadata_envs.get('DAGSTER_RUN') %}
        {% set columns = {} %}
        {% for column in adapter.get_columns_in_relation(this) %}
            {% set description = model.columns.get(column.name, {}).get('description') %}
            {% do columns.update({column.name: {'data_type': column.dtype | lower, 'description': description}}) %}
        {% endfor %}
        {# Dagster takes this line for itself, and shows the columns with the table. #}
        {% do log(tojson({'columns': columns}), info=true) %}
    {% endif %}
    {% endif %}
{% endmacro %}

{# The landing models that a node is computed from, itself included. #}
{% macro landing_upstream(node) %}
    {% set known = graph.setdefault('landing_upstream', {}) %}
    {% if node.unique_id not in known %}
        {% set found = [] %}
        {% for parent in node.depends_on.get('nodes', []) %}
            {% if parent.startswith('source.') and graph.sources[parent].source_name == 'deliveries' %}
                {% do found.append(node.unique_id) %}
            {% elif parent in graph.nodes %}
                {% do found.extend(landing_upstream(graph.nodes[parent])) %}
            {% endif %}
        {% endfor %}
        {% do known.update({node.unique_id: found | unique | list}) %}
    {% endif %}
    {{ return(known[node.unique_id]) }}
{% endmacro %}

{# dbt's ids are `model.project.name`, and `unit_test.project.model.name`. #}
{% macro is_test(node) -%}
    ({{ node }} like 'test.%' or {{ node }} like 'unit_test.%')
{%- endmacro %}

{% macro name_of(node) -%}
    split_part({{ node }}, '.', case when {{ node }} like 'unit_test.%' then 4 else 3 end)
{%- endmacro %}

{# Whether a message speaks of the machine, or of who else has the warehouse. #}
{% macro is_of_the_machine(message) -%}
    (
        {%- for phrase in [
            'out of memory', 'failed to allocate', 'could not allocate', 'failed to pin', 'failed to offload',
            'no space left', 'could not write', 'could not read from', 'could not read enough', 'could not fsync',
            'could not truncate', 'could not open', 'could not set lock', 'cannot open file', 'permission denied',
            'read-only', 'input/output error', 'database has been invalidated', 'no such folder', 'too many open files',
            'was in use by',
        ] -%}
        lower({{ message }}) like '%{{ phrase }}%'{{ ' or ' if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}

{# A hook after each build. #}
{% macro record_end(results) %}
    {% if execute %}
    {% set outcomes = [[opening(), 0, 'success', none, none], [ending(), none, 'success', none, none]] %}
    {% for result in results if result.node.unique_id in graph.nodes or result.node.resource_type == 'unit_test' %}
        {% do outcomes.append([
            result.node.unique_id, loop.index, result.status | string, (result.message or '')[:2000], result.execution_time
        ]) %}
    {% endfor %}
    delete from ops.recorded_nodes where build_id = '{{ invocation_id }}';
    {{ insert_nodes(invocation_id, outcomes) }};
    update ops.recorded_builds set ended_at = {{ dbt.current_timestamp() }} where build_id = '{{ invocation_id }}';
    {% endif %}
{% endmacro %}

{# The last hook: what is broken is told on the spot, and laid where it can be read while somebody has the warehouse. Where
   this build and the one before ended well nothing is new, and the history need not be gone through. #}
{% macro tell_incident() %}
    {% if execute %}
    {% set incidents = load_cached_relation(api.Relation.create(target.database, 'ops', 'incidents')) %}
    {% set news %}
        select 1
        from ops.recorded_nodes
        where
            build_id in (select build_id from ops.recorded_builds order by started_at desc limit 2)
            and coalesce(status, 'killed') not in ('success', 'pass', 'warn', 'no-op')
        union all
        select 1 from ops.recorded_open_incidents
    {% endset %}
    {% if incidents and run_query(news) | length %}
    {% for incident in run_query('select explanation from ' ~ incidents ~ ' where over_at is null order by incident_no desc limit 1') %}
        {% do log('\n' ~ incident['explanation'] ~ '\n', info=true) %}
    {% endfor %}
    {% do run_query('create or replace table ops.recorded_open_incidents as select incident_no from ' ~ incidents ~ ' where over_at is null') %}
    {% do adapter.dispatch('lay_out')(incidents) %}
    {% endif %}
    {% endif %}
{% endmacro %}

{% macro default__lay_out(incidents) %}
{% endmacro %}

{# `values`, each row after `first`. There are hundreds, so text is quoted here, and by no macro each. #}
{% macro rows_of(first, rows) -%}
    values
    {%- for row in rows %}
    ('{{ first }}'
        {%- for value in row -%}
            , {{ 'null' if value is none else value if value is number else "'" ~ value | replace("'", "''") ~ "'" }}
        {%- endfor -%}
    ){{ ', ' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro create_records() %}
    create schema if not exists ops;
    create table if not exists ops.recorded_builds (
        build_id varchar, started_at timestamp, ended_at timestamp, command varchar, selection varchar,
        run_id varchar, parent_run_id varchar, root_run_id varchar, attempt integer, started_by varchar, code_id varchar
    );
    create table if not exists ops.recorded_code (
        code_id varchar, node varchar, fingerprint varchar
    );
    create table if not exists ops.recorded_dependencies (code_id varchar, node varchar, parent varchar);
    create table if not exists ops.recorded_nodes (
        build_id varchar, node varchar, position integer, status varchar, message varchar, seconds double
    );
    create table if not exists ops.recorded_open_incidents (incident_no bigint);
    create table if not exists ops.recorded_tables (
        build_id varchar, node varchar, total_rows bigint, newest_delivery varchar
    );
{% endmacro %}
