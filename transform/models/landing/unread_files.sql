{{ config(
    materialized='table',
    post_hook={'sql': '{{ report_unread_files() }}', 'transaction': false}
) }}

{% set landed %}
    (
        {%- for feed in feeds() + ['products'] %}
        select _batch_id, _load_no, _file_size, _file_modified_ns from {{ ref('landing_' ~ feed) }} where _row_no = 0
        {{ 'union all' if not loop.last }}
        {%- endfor %}
    ) as landed
{% endset %}

{{ unread_files(landed) }}
