{# `dbt run-operation summary`: what is in the warehouse, for somebody who has just run a build. #}
{% macro summary() %}
    {% if not adapter.get_relation(target.database, 'change_feed', '_builds') %}
        {{ print('Nothing is built yet.') }}
        {{ return('') }}
    {% endif %}
    {% set landed = [] %}
    {% set marts = [] %}
    {% for node in graph.nodes.values() | sort(attribute='name') if node.resource_type == 'model' %}
        {% set relation = adapter.get_relation(node.database, node.schema, node.alias) %}
        {% if relation and node.schema == 'marts' %}
            {% do marts.append("select '" ~ node.name ~ "' as name, count(*) as total from " ~ relation) %}
        {% elif relation and node.name.startswith('landing_') %}
            {% do landed.append(landed_files(node.name, relation)) %}
        {% endif %}
    {% endfor %}
    {{ print('') }}
    {% for files in run_query('select sum(total) as total, sum(new) as new from (' ~ landed | join(' union all ') ~ ')') %}
        {{ print('Deliveries: ' ~ (files['new'] or 'none') ~ ' new, ' ~ (files['total'] or 0) ~ ' landed in all.') }}
    {% endfor %}
    {% if marts %}
        {{ print('') }}
        {{ print('Rows in the schema marts of ' ~ target.path ~ ':') }}
        {% for mart in run_query(marts | join(' union all ') ~ ' order by name') %}
            {{ print('  %-24s %10d' | format(mart['name'], mart['total'])) }}
        {% endfor %}
    {% endif %}
    {% if adapter.get_relation(target.database, 'marts', 'quarantine') %}
        {{ print('') }}
        {{ print('Quarantined rows, by reason (a row may have several; see marts.quarantine):') }}
        {% set reasons %}
            select feed, reason, count(*) as total
            from (
                select feed, unnest(string_split(reasons, ',')) as reason
                from {{ adapter.get_relation(target.database, 'marts', 'quarantine') }}
            )
            group by feed, reason
            order by feed, reason
        {% endset %}
        {% for row in run_query(reasons) %}
            {{ print('  %-12s %-18s %6d' | format(row['feed'], row['reason'], row['total'])) }}
        {% else %}
            {{ print('  none') }}
        {% endfor %}
    {% endif %}
    {{ print('') }}
{% endmacro %}

{# One row: how many files a landing table knows, and how many of them its last build landed. #}
{% macro landed_files(name, relation) %}
    select
        (select count(distinct _batch_id) from {{ relation }} where _row_no = 0) as total,
        case
            when last_build.is_rebuild then (select count(distinct _batch_id) from {{ relation }} where _row_no = 0)
            else (select count(*) from {{ change_feed_of(name) }} as feed where feed.build_no = last_build.build_no)
        end as new
    from (
        select build_no, is_rebuild from {{ change_feed_of('_builds') }} where model = '{{ name }}' order by build_no desc limit 1
    ) as last_build
{% endmacro %}
