{# DuckDB lets one process have a file while it writes there. People read a second file, beside the first, that nobody ever
   writes: each new one is made under another name and then takes its place, so that whoever has the old one open keeps it
   whole, and waits for nobody. #}
{% macro duckdb__publish(relations, version) %}
    {% set file = quoted(modules.re.sub('([.]duckdb)?$', '_marts.duckdb', target.path, count=1)) %}
    {% set new_file = file[:-1] ~ ".tmp'" %}
    {% set published = run_query(
        'select 1 from ' ~ change_feed_of('_published') ~ " where version = '" ~ version ~ "' and is_file(" ~ file ~ ')'
    ) %}
    {% if not published %}
        {# What a build left that was killed here. #}
        {% do run_query('select remove_file(' ~ new_file ~ '), remove_file(' ~ new_file ~ " || '.wal')") %}
        {% do run_query('attach ' ~ new_file ~ ' as published') %}
        {% for relation in relations %}
            {% do run_query('create schema if not exists published.' ~ relation.schema) %}
            {% do run_query('create table published.' ~ relation.include(database=false) ~ ' as from ' ~ relation) %}
        {% endfor %}
        {% do run_query('detach published') %}
        {% do run_query('select replace_file(' ~ new_file ~ ', ' ~ file ~ ')') %}
        {% do run_query('create or replace table ' ~ change_feed_of('_published') ~ " as select '" ~ version ~ "' as version") %}
    {% endif %}
{% endmacro %}
