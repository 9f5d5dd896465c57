-- The dates with a full extract: one counts only if it shows a customer, so that an empty file deletes nobody.
{{ config(unique_key='extracted_on', change_feed=['extracted_on']) }}

{% call affected_keys() %}
    select distinct extracted_on from {{ changes(ref('stg_customers')) }}
{% endcall %}

select distinct extracted_on
from {{ ref('stg_customers') }}
where customer_id is not null and {{ is_affected('extracted_on') }}
