-- Problem: a file is delivered again with other content, and rows of the older one stay in the tables.
-- Usually patched in: a task that deletes the batch before it loads it again.
-- Why here: landing keeps every content, as the record; which of them counts is a rule.
-- How it corrects itself: only the content that was landed last counts, and the models downstream compute what was
-- in either of the two.
{{ config(unique_key='batch_id', change_feed=['feed', 'batch_id']) }}

-- The linter miscounts the indents of a loop in a block. -- noqa: disable=LT02
{% call affected_keys() %}
    {% for feed in feeds() -%}
    select _batch_id as batch_id from {{ changes(ref('landing_' ~ feed)) }}
    {{ 'union' if not loop.last }}
    {% endfor %}
{% endcall %}
-- noqa: enable=LT02

with contents as (
    {% for feed in feeds() -%}
    select
        '{{ feed }}' as feed,
        _batch_id as batch_id,
        _load_no as load_no,
        sum(case when _row_no > 0 then 1 else 0 end) as delivered_rows
    from {{ ref('landing_' ~ feed) }}
    where {{ is_affected('_batch_id', 'batch_id') }}
    group by _batch_id, _load_no
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

newest as (
    select
        batch_id,
        max(load_no) as load_no
    from contents
    group by batch_id
)

select
    contents.feed,
    contents.batch_id,
    contents.load_no,
    cast(contents.delivered_rows as bigint) as delivered_rows
from contents
inner join newest on contents.batch_id = newest.batch_id and contents.load_no = newest.load_no
