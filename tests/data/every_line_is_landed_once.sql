-- Landing is the record: a line that is in it twice would count twice in all that reads it, and one that is missing would
-- never count. Row 0 of a content is the file, and its lines count from 1; see transform/macros/numbered.sql.
{{ config(meta={'dagster': {'ref': {'name': 'landing_orders'}}}) }}

{% for feed in feeds() + ['products'] -%}
select
    _batch_id,
    _load_no
from {{ ref('landing_' ~ feed) }}
group by _batch_id, _load_no
having
    min(_row_no) <> 0
    or count(*) <> max(_row_no) + 1
    or sum(_row_no) <> max(_row_no) * (max(_row_no) + 1) / 2
{{ 'union all' if not loop.last }}
{% endfor %}
