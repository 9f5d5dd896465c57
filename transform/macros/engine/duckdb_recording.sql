{# While a build has the warehouse nobody else can open it: what people want to know meanwhile lies in files beside it. #}

{# The newest incidents as JSON, for whoever asks why.py meanwhile. #}
{% macro duckdb__lay_out(incidents) %}
    {% set file = beside_warehouse('_incidents.json') %}
    {% set new_file = file[:-1] ~ ".tmp'" %}
    {% do run_query('copy (from ' ~ incidents ~ ' order by incident_no desc limit 100) to ' ~ new_file ~ ' (format json, array true)') %}
    {% do run_query('select replace_file(' ~ new_file ~ ', ' ~ file ~ ')') %}
{% endmacro %}

{# Takes over what duckdb_files.py wrote down of builds that could not open the warehouse. #}
{% macro duckdb__record_unopened() %}
    {% set file = beside_warehouse('_unopened.json') %}
    {% if run_query('select is_file(' ~ file ~ ') as is_there')[0]['is_there'] %}
        {% set query %}
            create or replace temporary table unopened as
            select * from read_json({{ file }}, format = 'newline_delimited', columns = {
                build_id: 'varchar', began_at: 'timestamp', message: 'varchar', run: 'varchar'
            })
        {% endset %}
        {% do run_query(query) %}
        {% for build in run_query('select * from unopened order by began_at') %}
            {% set run = fromjson(build['run']) %}
            {% do run_query(
                'insert into ops.recorded_builds values '
                ~ build_values(build['build_id'], build['began_at'] | string, build['began_at'] | string, 'build', '', run, '')
            ) %}
            {% do run_query(insert_nodes(build['build_id'], [[opening(), 0, 'error', build['message'], none]])) %}
        {% endfor %}
        {% do run_query('select remove_file(' ~ file ~ ')') %}
    {% endif %}
{% endmacro %}
