-- What is known of each customer today: the latest valid values, and when they were first shown.
{{ config(unique_key='customer_id', change_feed=['customer_id']) }}

{% call affected_keys() %}
    select customer_id from {{ changes(ref('customer_changes')) }}
{% endcall %}

with ranked as (
    select
        *,
        row_number() over (partition by customer_id order by extracted_on desc) as rank,
        row_number() over (partition by customer_id, state order by extracted_on desc) as rank_in_state,
        min(case when state = 'valid' then extracted_on end) over (partition by customer_id) as first_seen_on
    from {{ ref('customer_changes') }}
    where {{ is_affected('customer_id') }}
),

absent as (
    select
        customer_id,
        previous_extracted_on as last_seen_on
    from ranked
    where rank = 1 and state = 'absent'
)

select
    ranked.customer_id,
    ranked.name,
    ranked.email,
    ranked.country_code,
    ranked.signed_up_at,
    ranked.first_seen_on,
    absent.customer_id is not null as is_deleted,
    absent.last_seen_on
from ranked
left join absent on ranked.customer_id = absent.customer_id
where ranked.state = 'valid' and ranked.rank_in_state = 1
