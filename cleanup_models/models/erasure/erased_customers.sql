-- Who has asked to be forgotten. A request counts for good: also when its file is delivered again without it.
-- What it does to stored values is in macros/erasure.sql.
{{ config(unique_key='customer_id', change_feed=['customer_id']) }}

{% call affected_keys() %}
    select requests.customer_id
    from {{ ref('landing_erasures') }} as requests
    inner join {{ changes(ref('landing_erasures')) }} as changed on requests._batch_id = changed._batch_id
    where requests.customer_id is not null
{% endcall %}

select distinct customer_id
from {{ ref('landing_erasures') }}
where customer_id is not null and {{ is_affected('customer_id') }}
