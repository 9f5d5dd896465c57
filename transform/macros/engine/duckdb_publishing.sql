{# DuckDB lets one process have a file while it writes there. People read a second file, beside the first, that nobody ever
   writes: each new one is made under another name, as a copy of the last one with what has changed since, and then takes
   its place, so that whoever has the old one open keeps it whole, and waits for nobody. #}
{% macro duckdb__publish(marts, version) %}
    {% set file = beside_warehouse('_marts.duckdb') %}
    {% set new_file = file[:-1] ~ ".tmp'" %}
    {% set is_there = run_query('select is_file(' ~ file ~ ') as is_there')[0]['is_there'] %}
    {% set last_version = run_query('select max(version) as version from ' ~ change_feed_of('_published'))[0]['version'] %}
    {% if not is_there or last_version != version %}
        {# What a build left that was killed here. #}
        {% do run_query('select remove_file(' ~ new_file ~ '), remove_file(' ~ new_file ~ " || '.wal')") %}
        {% set published_builds = {} %}
        {% if is_there and last_version and version_of_file(file) == last_version %}
            {% do run_query('select copy_file(' ~ file ~ ', ' ~ new_file ~ ')') %}
            {% for mart in run_query('select model, build_no from ' ~ change_feed_of('_published')) %}
                {% do published_builds.update({mart['model']: mart['build_no']}) %}
            {% endfor %}
        {% endif %}
        {% do run_query('attach ' ~ new_file ~ ' as published') %}
        {% for copy in run_query("select schema_name, table_name from duckdb_tables() where database_name = 'published'") %}
            {% if copy['table_name'] not in marts | map(attribute='relation.identifier') %}
                {% do run_query('drop table published.' ~ copy['schema_name'] ~ '.' ~ copy['table_name']) %}
            {% endif %}
        {% endfor %}
        {% do run_query("create table published.main._version as select '" ~ version ~ "' as version") %}
        {% for mart in marts %}
            {% set copy = 'published.' ~ mart.relation.include(database=false) %}
            {% set build_no = published_builds.get(mart.relation.identifier, -1) %}
            {% if mart.unique_key and build_no >= mart.rebuilt_at %}
                {% set is_changed %}
                    where ({{ mart.unique_key | join(', ') }}) in (
                        select {{ mart.unique_key | join(', ') }}
                        from {{ change_feed_of(mart.relation.identifier) }}
                        where build_no > {{ build_no }}
                    )
                {% endset %}
                {% do run_query('delete from ' ~ copy ~ is_changed) %}
                {% do run_query('insert into ' ~ copy ~ ' by name from ' ~ mart.relation ~ is_changed) %}
            {% else %}
                {% do run_query('create schema if not exists published.' ~ mart.relation.schema) %}
                {% do run_query('create or replace table ' ~ copy ~ ' as from ' ~ mart.relation) %}
            {% endif %}
        {% endfor %}
        {% do run_query('detach published') %}
        {% do run_query('select replace_file(' ~ new_file ~ ', ' ~ file ~ ')') %}
        {% set published %}
            create or replace table {{ change_feed_of('_published') }} as
            select '{{ version }}' as version, model, max(build_no) as build_no
            from {{ change_feed_of('_builds') }}
            group by model
        {% endset %}
        {% do run_query(published) %}
    {% endif %}
{% endmacro %}

{# The path of a file beside the warehouse, as an SQL string: of `shop.duckdb` and '_marts.duckdb' `shop_marts.duckdb`. #}
{% macro beside_warehouse(suffix) -%}
    {{ return(quoted(modules.re.sub('([.]duckdb)?$', suffix, target.path, count=1))) }}
{%- endmacro %}

{# Which state of the warehouse a file was copied from: not always the last one, where one of the two was put back. #}
{% macro version_of_file(file) %}
    {% do run_query('attach ' ~ file ~ ' as published (read_only)') %}
    {% set has_version = run_query("select 1 from duckdb_tables() where database_name = 'published' and table_name = '_version'") %}
    {% set version = run_query('from published.main._version')[0]['version'] if has_version %}
    {% do run_query('detach published') %}
    {{ return(version) }}
{% endmacro %}
