{# Replaces dbt's own, which gives a row that is gone from the source the machine's time: it ended when the source said
   so. `snapshot_query` is dbt's name for what the snapshot reads. #}
{% macro snapshot_get_time() -%}
    (select max({{ config.get('updated_at') }}) from snapshot_query)
{%- endmacro %}

{# A hook of product_files.sql: says why the newest content was not applied. #}
{% macro report_products_not_applied() -%}
    {%- if execute -%}
        {%- set newest = run_query(
            'select not_applied_because from ' ~ this ~ ' order by load_no desc limit 1'
        ) -%}
        {%- for file in newest if file['not_applied_because'] -%}
            {%- do exceptions.warn('Warning: products/current.csv was not applied: ' ~ file['not_applied_because'] ~ '.') -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
