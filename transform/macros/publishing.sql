{# People read marts while builds write them. Where an engine keeps readers out meanwhile, each build ends with a copy of
   the marts for them, which takes the place of the last one in one step. #}

{# The hook at the end of each build. What it publishes is whole: no table is older than what it is computed from, and
   no test failed when it ran last. A file that could not be read keeps nothing else from readers. #}
{% macro publish_marts(results) %}
    {% if execute %}
    {% set faults = [] %}
    {% for test in failed_tests(results) %}
        {% do faults.append('the test ' ~ test ~ ' failed') %}
    {% endfor %}
    {% for table in tables_behind() %}
        {% do faults.append(table['name'] ~ ' is older than ' ~ table['upstream']) %}
    {% endfor %}
    {% if faults %}
        {% do log('Readers still see the last whole build: ' ~ faults[0] ~ '.', info=true) %}
    {% else %}
        {% do adapter.dispatch('publish')(marts(), version_of_tables()) %}
    {% endif %}
    {% endif %}
{% endmacro %}

{# An engine that lets people read while it writes needs no copy. #}
{% macro default__publish(marts, version) %}
{% endmacro %}

{# Each mart with the build that last made it anew, and the keys of its rows if its change feed tells which have changed. #}
{% macro marts() %}
    {% set query %}
        select model, max(build_no) as build_no from {{ change_feed_of('_builds') }} where is_rebuild group by model
    {% endset %}
    {% set rebuilt_at = {} %}
    {% for build in run_query(query) %}
        {% do rebuilt_at.update({build['model']: build['build_no']}) %}
    {% endfor %}
    {% set marts = [] %}
    {% for node in graph.nodes.values() if node.resource_type == 'model' and node.schema == 'marts' %}
        {% set unique_key = node.config.get('unique_key') or [] %}
        {% set keys = [unique_key] if unique_key is string else unique_key %}
        {% set is_told = node.config.get('change_feed') and not keys | reject('in', node.config.get('change_feed')) | list %}
        {% do marts.append({
            'relation': api.Relation.create(node.database, node.schema, node.alias),
            'unique_key': keys if is_told else [],
            'rebuilt_at': rebuilt_at.get(node.alias, 0),
        }) %}
    {% endfor %}
    {{ return(marts) }}
{% endmacro %}

{# Names of the tests that failed when they ran last: now, or in a build before that this one did not repeat. #}
{% macro failed_tests(results) %}
    {% set memory = change_feed_of('_failed_tests') %}
    {% set ran = [] %}
    {% set failed = [] %}
    {% for result in results if result.node.resource_type in ('test', 'unit_test') %}
        {% do ran.append(result.node.name) %}
        {% if result.status in ('fail', 'error') %}
            {% do failed.append(result.node.name) %}
        {% endif %}
    {% endfor %}
    {% if ran %}
        {% do run_query('delete from ' ~ memory ~ " where test in ('" ~ ran | join("', '") ~ "')") %}
    {% endif %}
    {% if failed %}
        {% do run_query('insert into ' ~ memory ~ " values ('" ~ failed | join("'), ('") ~ "')") %}
    {% endif %}
    {% set remembered = run_query('select test from ' ~ memory).columns['test'].values() %}
    {# One that has been removed since holds nothing up. #}
    {% for node in graph.nodes.values() if node.resource_type == 'test' and node.name in remembered and node.name not in failed %}
        {% do failed.append(node.name) %}
    {% endfor %}
    {{ return(failed) }}
{% endmacro %}

{# Tables that have not been built since what they are computed from was, as rows of `name` and `upstream`. #}
{% macro tables_behind() %}
    {% set dependencies = [] %}
    {% for node in graph.nodes.values() if node.resource_type in ('model', 'snapshot') %}
        {% for parent in node.depends_on.nodes if parent in graph.nodes %}
            {% set parent = graph.nodes[parent] %}
            {% if parent.resource_type in ('model', 'snapshot') %}
                {% do dependencies.append("('" ~ node.alias ~ "', '" ~ parent.alias ~ "')") %}
            {% endif %}
        {% endfor %}
    {% endfor %}
    {% set query %}
        with dependencies (name, upstream) as (
            values {{ dependencies | join(', ') }}
        ),

        builds as (
            select model, max(build_no) as build_no from {{ change_feed_of('_builds') }} group by model
        ),

        last_reads as (
            select model, upstream, max(upstream_build_no) as build_no
            from {{ change_feed_of('_reads') }}
            group by model, upstream
        )

        select dependencies.name, dependencies.upstream
        from dependencies
        left join builds on dependencies.upstream = builds.model
        left join last_reads
            on dependencies.name = last_reads.model and dependencies.upstream = last_reads.upstream
        where last_reads.build_no is null or last_reads.build_no < builds.build_no
        order by dependencies.name, dependencies.upstream
    {% endset %}
    {{ return(run_query(query)) }}
{% endmacro %}

{# A hash that is another one when any table may hold other rows: of each model's logic, of the last build that made it
   anew, and of the last that changed it. #}
{% macro version_of_tables() %}
    {% set query %}
        select model, max_by(fingerprint, build_no), max(case when is_rebuild then build_no end)
        from {{ change_feed_of('_builds') }}
        group by model
        {% for node in graph.nodes.values() if node.resource_type == 'model' and node.config.get('change_feed') %}
        union all
        select 'changes of {{ node.alias }}', null, max(build_no) from {{ change_feed_of(node.alias) }}
        {% endfor %}
        order by 1
    {% endset %}
    {% set parts = [] %}
    {% for row in run_query(query) %}
        {% do parts.append(row.values() | join(' ')) %}
    {% endfor %}
    {{ return(local_md5(parts | join('\n'))) }}
{% endmacro %}
