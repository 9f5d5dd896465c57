{# Statements and functions that DuckDB spells its own way. #}

{% macro duckdb__create_temporary_table(name, query) %}
    create or replace temporary table {{ name }} as ({{ query }})
{% endmacro %}

{% macro duckdb__matches(value, pattern) -%}
    regexp_full_match({{ value }}, '{{ pattern }}')
{%- endmacro %}

{% macro duckdb__is_date(value) -%}
    (try_cast({{ value }} as date) is not null and {{ value }} not like '0000%')
{%- endmacro %}

{# Rows of affected keys go, the model's come; the change feed gets what is in one of the two and not in the other. #}
{% macro duckdb__recompute_sql(target, source, keys, columns, feed_columns) %}
    {%- if feed_columns %}
    insert into {{ change_feed_of(target.identifier) }}
    with before as (
        select {{ columns }} from {{ target }} where {{ is_affected(keys) }}
    )

    select distinct {{ next_build_no() }}, {{ feed_columns | join(', ') }}
    from (
        (select {{ columns }} from before except select {{ columns }} from {{ source }})
        union all
        (select {{ columns }} from {{ source }} except select {{ columns }} from before)
    ) as differences;
    {%- endif %}

    delete from {{ target }} where {{ is_affected(keys) }};

    insert into {{ target }} ({{ columns }}) select {{ columns }} from {{ source }};
{% endmacro %}


{% macro duckdb__to_timestamp(value) -%}
    {%- set form -%}
        (19[0-9]{2}|2[0-9]{3})-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?
    {%- endset -%}
    case
        when not {{ matches(value, form) }} then null
        -- Nearly all have no fraction and no offset, which is half the work.
        when length({{ value }}) <= 20 then try_cast({{ value }} as timestamp)
        else
            try_cast(
                concat({{ value }}[:10], ' ', {{ value }}[12:19], regexp_extract({{ value }}, '[.][0-9]{1,6}')) as timestamp
            ) - to_minutes(
                case when {{ value }}[-6] in ('+', '-') then
                    cast({{ value }}[-6] || '1' as integer)
                    * (60 * cast({{ value }}[-5:-4] as integer) + cast({{ value }}[-2:] as integer))
                else 0 end
            )
    end
{%- endmacro %}
