{{ config(unique_key='customer_id') }}

{% call affected_keys() %}
    select customer_id from {{ changes(ref('customer_changes')) }}
{% endcall %}

with states as (
    select
        *,
        lag(state) over in_order as previous_state,
        lag(name) over in_order as previous_name,
        lag(email) over in_order as previous_email,
        lag(country_code) over in_order as previous_country_code
    from {{ ref('customer_changes') }}
    where state <> 'quarantined' and {{ is_affected('customer_id') }}
    window in_order as (partition by customer_id order by extracted_on)
),

versions as (
    select
        *,
        lead(extracted_on) over (partition by customer_id order by extracted_on) as next_extracted_on
    from states
    where
        state is distinct from previous_state
        or name is distinct from previous_name
        or email is distinct from previous_email
        or country_code is distinct from previous_country_code
)

select
    customer_id,
    name,
    email,
    country_code,
    extracted_on as valid_from,
    next_extracted_on as valid_to
from versions
where state = 'valid'
