{#
    Problem: a row arrives long after the day it belongs to, and the tables built from that day no longer hold.
    Usually patched in: the workflow, as a lookback of n days or a backfill job for the days that n did not cover.
    Why here: how far back a row reaches is known from the row alone, so no window is ever the right one.
    How it corrects itself: a model names the keys touched by any change, of any age, since it last ran
    (`affected_keys`), and computes those (`is_affected`); the first build computes them all.

        {% call affected_keys() %}
            select order_id from {{ changes(ref('payments')) }}
        {% endcall %}
        select … from {{ ref('payments') }} where {{ is_affected('order_id') }}

    Each table tells what changed in it in a change feed, kept by stale_rows.sql.
#}

{# Wraps the select of the affected keys; its columns are those of the model's `unique_key`. #}
{% macro affected_keys() %}
    {%- set query = caller() -%}
    {%- if is_incremental_build() -%}
        {%- do run_query(create_temporary_table(affected_relation(), query)) -%}
    {%- endif -%}
{% endmacro %}

{# A condition: the column (or columns) hold a key that is affected. `keys` names it where the columns do not. #}
{% macro is_affected(columns, keys=none) -%}
    {%- set columns = [columns] if columns is string else columns -%}
    {%- set keys = [keys] if keys is string else keys or columns -%}
    {%- if is_incremental_build() -%}
        ({{ columns | join(', ') }}) in (select {{ keys | join(', ') }} from {{ affected_relation() }})
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{# A relation: what was in changed rows of `upstream`, before or after the change, since this model last read it.
   Its columns are those that `upstream` lists as its `change_feed`. On a first build all of `upstream` is new. #}
{% macro changes(upstream) -%}
    {%- for node in graph.get('nodes', {}).values() if node.alias == upstream.identifier and not node.config.get('change_feed') -%}
        {%- do exceptions.raise_compiler_error(
            node.name ~ ' keeps no change feed: list in its config, as change_feed, the columns by which ' ~ model.name
            ~ ' finds the keys that it has to compute again.'
        ) -%}
    {%- endfor -%}
    {%- if is_incremental_build() -%}
    (
        select * from {{ change_feed_of(upstream.identifier) }}
        where build_no > (
            select coalesce(max(upstream_build_no), 0)
            from {{ change_feed_of('_reads') }}
            where model = '{{ this.identifier }}' and upstream = '{{ upstream.identifier }}'
        )
    )
    {%- else -%}
    {{ upstream }}
    {%- endif -%}
{%- endmacro %}

{# `this` is none in a unit test, which runs a model as its first build would. #}
{% macro is_incremental_build() %}
    {{ return(execute and this is not none and is_incremental()) }}
{% endmacro %}

{% macro affected_relation() -%}
    affected__{{ this.identifier }}
{%- endmacro %}

{% macro change_feed_of(name) -%}
    {{ return(api.Relation.create(database=target.database, schema='change_feed', identifier=name)) }}
{%- endmacro %}

{% macro create_temporary_table(name, query) -%}
    {{ return(adapter.dispatch('create_temporary_table')(name, query)) }}
{%- endmacro %}
