{# Schemas are named as configured (`marts`, not `main_marts`): they are part of the contract. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
