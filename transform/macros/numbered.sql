{# Groups of a table in which the column does not count 1, 2, 3 … without a gap or a repetition. A number that repeats in
   the place of one that is missing changes their sum; so nothing has to be sorted, however long the history. #}
{% test numbered(model, column_name, within) %}
select {{ within | join(', ') }}
from {{ model }}
group by {{ within | join(', ') }}
having count(*) <> max({{ column_name }}) or sum({{ column_name }}) <> max({{ column_name }}) * (max({{ column_name }}) + 1) / 2
{% endtest %}
