{# Whether a feed is later than the `freshness` in its YAML allows; `dbt source freshness` asks the same by itself. It only
   warns: whatever has arrived is built. One that never delivered is not late. #}
{% test on_time(model) %}
{% set source = graph.sources[context['model'].depends_on.nodes[0]] if execute else {'freshness': {'warn_after': {}}} %}
select arrived_at
from ({{ newest_arrival(source.name) }}) as arrivals
where
    arrived_at + interval '{{ source.freshness.warn_after.count }}' {{ source.freshness.warn_after.period }}
    < cast('{{ run_started_at.strftime('%Y-%m-%d %H:%M:%S') }}' as timestamp)
{% endtest %}

{# One row, `arrived_at`: when the newest file of a feed was written, in UTC, be it landed already or archived since. #}
{% macro newest_arrival(feed) -%}
    {{ return(adapter.dispatch('newest_arrival')(feed)) }}
{%- endmacro %}
