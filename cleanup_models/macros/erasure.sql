{#
    Problem: a person asks to be forgotten, and copies of the name lie in every layer, with more arriving every day.
    Usually patched in: a script that runs updates over a list of tables, and is run again after each reload.
    Why here: only the table that stores a value knows that it does, and when it got a new one.
    How it corrects itself: each table that stores personal values as they came has this as its post-hook, so that
    they are gone before its build is visible; what is computed from it reads them as null (erased_customers.sql).
#}

{# Nulls `columns` of `this` wherever `key` is in `erased`. #}
{% macro erase(key, columns, erased) %}
    update {{ this }}
    set {% for column in columns %}{{ column }} = null{{ ', ' if not loop.last }}{% endfor %}
    where
        {{ key }} in (select {{ key }} from {{ erased }})
        and ({% for column in columns %}{{ column }} is not null{{ ' or ' if not loop.last }}{% endfor %})
{% endmacro %}
