{# The folder that deliveries arrive in, as an SQL string. #}
{% macro landing_dir() -%}
    {{ quoted(env_var('LANDING_DIR', '') or 'landing') }}
{%- endmacro %}

{% macro quoted(text) -%}
    {{ dbt.string_literal(dbt.escape_single_quotes(text)) }}
{%- endmacro %}

{# Whether a path below the landing folder is that of a delivery. #}
{% macro is_delivery(path) -%}
    {{ return(adapter.dispatch('is_delivery')(path)) }}
{%- endmacro %}

{% macro default__is_delivery(path) -%}
    (
        {{ path }} = 'products/current.csv'
        or (
            {{ matches(path, '(' ~ feeds() | join('|') ~ ')/[0-9]{4}-[0-9]{2}-[0-9]{2}/[^/._][^/]*[.](csv|csv[.]gz|parquet)') }}
            and {{ is_date(dbt.split_part(path, dbt.string_literal('/'), 2)) }}
        )
    )
{%- endmacro %}

{# The feeds that are delivered by date. #}
{% macro feeds() %}
    {{ return(['orders', 'payments', 'customers', 'erasures', 'retractions']) }}
{% endmacro %}

{# Those of them whose batches can be retracted. #}
{% macro retractable_feeds() %}
    {{ return(['orders', 'payments', 'customers']) }}
{% endmacro %}

{% macro is_retractable(feed) -%}
    {{ feed }} in (
        {%- for name in retractable_feeds() %}{{ dbt.string_literal(name) }}{{ ', ' if not loop.last }}{% endfor -%}
    )
{%- endmacro %}

{#
    What a landing model is: the lines of files that were not read before, each value as the text that came, appended
    and never changed. Row 0 of a content stands for the file itself, so that a file and its rows land together or not
    at all, and one without rows is known too.
#}
{% macro land(feed, columns) -%}
    {%- do source('deliveries', feed) -%}
    {{ config(
        unique_key=['_batch_id', '_load_no'],
        change_feed=['_batch_id'],
        full_refresh=false,
        on_schema_change='append_new_columns'
    ) }}
    {%- if execute -%}
        {%- set files = affected_relation() -%}
        {%- do run_query(create_temporary_table(files, new_files(feed))) -%}
        {%- for file in run_query('select _batch_id, header from ' ~ files ~ ' order by _load_no') -%}
            {%- set missing = columns | reject('in', fromjson(file['header'])) | list -%}
            {%- if missing -%}
                {%- do exceptions.warn(
                    'Warning: ' ~ file['_batch_id'] ~ (
                        ' has no column ' ~ missing | join(', ') ~ ': empty in each of its rows.'
                        if fromjson(file['header']) else ' is empty.'
                    )
                ) -%}
            {%- endif -%}
        {%- endfor -%}
        {{ read_new_files(files, columns) }}
    {%- endif -%}
{%- endmacro %}

{% macro new_files(feed) -%}
    {{ return(adapter.dispatch('new_files')(feed)) }}
{%- endmacro %}

{% macro read_new_files(files, columns) -%}
    {{ return(adapter.dispatch('read_new_files')(files, columns)) }}
{%- endmacro %}

{% macro unread_files(landed) -%}
    {{ return(adapter.dispatch('unread_files')(landed)) }}
{%- endmacro %}

{# A hook of unread_files.sql. The model fails, and only it: whatever could be read was, and every table is built. #}
{% macro report_unread_files() -%}
    {%- if execute -%}
        {%- set unread = run_query('select * from ' ~ this ~ ' order by is_fault, path') -%}
        {%- set faults = [] -%}
        {%- set ignored = [] -%}
        {%- for file in unread -%}
            {%- if file['is_fault'] -%}
                {%- do faults.append(file['path'] ~ ' cannot be read: ' ~ file['problem'] ~ '.') -%}
            {%- else -%}
                {%- do ignored.append('Warning: ' ~ file['path'] ~ ' is ignored: ' ~ file['problem'] ~ '.') -%}
            {%- endif -%}
        {%- endfor -%}
        {%- for sentence in ignored[:10] -%}
            {%- do exceptions.warn(sentence) -%}
        {%- endfor -%}
        {%- if ignored | length > 10 -%}
            {%- do exceptions.warn('Warning: ' ~ (ignored | length - 10) ~ ' more files are ignored: see the table ' ~ this ~ '.') -%}
        {%- endif -%}
        {%- if faults -%}
            {%- do exceptions.raise_compiler_error(faults | join('\n')) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
