{#
    The reasons for which a row is quarantined: codes in alphabetical order, comma-separated; null where the row is
    valid. `conditions` maps each code to its condition, in that order. A malformed line has no other reason.
#}
{% macro reasons(conditions, is_malformed='is_malformed') -%}
    case
        when {{ is_malformed }} then 'malformed_line'
        else nullif(concat_ws(
            ','
            {%- for code, condition in conditions.items() %},
            case when {{ condition }} then '{{ code }}' end
            {%- endfor %}
        ), '')
    end
{%- endmacro %}

{# Whether a value is not in the column of that name of a seed. #}
{% macro is_unknown(column, seed) -%}
    {{ column }} is null or {{ column }} not in (select {{ column }} from {{ seed }})
{%- endmacro %}
