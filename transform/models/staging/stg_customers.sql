{{ config(
    unique_key='batch_id',
    change_feed=['extracted_on'],
    post_hook="{{ erase('customer_id', ['name', 'email'], ref('erased_customers')) }}"
) }}

{% call affected_keys() %}
    select batch_id from {{ changes(ref('live_batches')) }} where feed = 'customers'
{% endcall %}

with cast_rows as (
    select
        landing._batch_id as batch_id,
        landing._row_no as row_no,
        landing._is_malformed as is_malformed,
        cast(split_part(landing._batch_id, '/', 2) as date) as extracted_on,
        landing.customer_id,
        landing.name,
        landing.email,
        landing.country_code,
        landing.signed_up_at as signed_up_at_text,
        {{ to_timestamp('landing.signed_up_at') }} as signed_up_at
    from {{ ref('landing_customers') }} as landing
    inner join {{ ref('live_batches') }} as live
        on landing._load_no = live.load_no and landing._batch_id = live.batch_id
    where live.feed = 'customers' and landing._row_no > 0 and {{ is_affected('batch_id') }}
)

select
    batch_id,
    row_no,
    extracted_on,
    customer_id,
    name,
    email,
    country_code,
    signed_up_at_text,
    signed_up_at,
    {{ reasons({
        'bad_timestamp': 'signed_up_at is null',
        'missing_key': 'customer_id is null',
        'unknown_country': is_unknown('country_code', ref('countries')),
    }) }} as reasons
from cast_rows
