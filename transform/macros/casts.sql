{#
    Text to values, at the edge and nowhere else. What is not of the form that the contract gives is null: a pattern
    decides, because casts also take `1e3`, ` 5 ` and `5.7`, and drop the offset of a timestamp.
#}

{% macro to_whole_number(value) -%}
    case when {{ matches(value, '-?[0-9]{1,18}') }} then cast({{ value }} as bigint) end
{%- endmacro %}

{% macro to_money(value) -%}
    case when {{ matches(value, '-?[0-9]{1,10}([.][0-9]{1,2})?') }} then cast({{ value }} as decimal(18, 2)) end
{%- endmacro %}

{# In UTC; beyond microseconds it is cut off. #}
{% macro to_timestamp(value) -%}
    {{ return(adapter.dispatch('to_timestamp')(value)) }}
{%- endmacro %}

{# Whether the whole text is of a pattern, in the syntax that RE2 and Java share. #}
{% macro matches(value, pattern) -%}
    {{ return(adapter.dispatch('matches')(value, pattern)) }}
{%- endmacro %}

{% macro is_date(value) -%}
    {{ return(adapter.dispatch('is_date')(value)) }}
{%- endmacro %}
