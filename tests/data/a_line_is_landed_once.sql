-- Landing is the record: a line that is in it twice would be counted twice by everything that reads it.
{% for feed in feeds() + ['products'] -%}
select
    _batch_id,
    _load_no,
    _row_no
from {{ ref('landing_' ~ feed) }}
group by _batch_id, _load_no, _row_no
having count(*) > 1
{{ 'union all' if not loop.last }}
{% endfor %}
