{{ config(unique_key='customer_id') }}

{% call affected_keys() %}
    select customer_id from {{ changes(ref('current_customers')) }}
    union
    select customer_id from {{ changes(ref('erased_customers')) }}
    union
    -- A new latest extract moves the day on which everybody who is there was last seen.
    select customer_id
    from {{ ref('current_customers') }}
    where not is_deleted and exists (select 1 from {{ changes(ref('customer_extracts')) }})
{% endcall %}

select
    customers.customer_id,
    case when erased.customer_id is null then customers.name end as name,
    case when erased.customer_id is null then customers.email end as email,
    customers.country_code,
    countries.country_name,
    countries.region,
    customers.signed_up_at,
    erased.customer_id is not null as is_erased,
    customers.is_deleted,
    customers.first_seen_on,
    coalesce(customers.last_seen_on, (select max(extracted_on) from {{ ref('customer_extracts') }})) as last_seen_on
from {{ ref('current_customers') }} as customers
inner join {{ ref('countries') }} as countries on customers.country_code = countries.country_code
left join {{ ref('erased_customers') }} as erased on customers.customer_id = erased.customer_id
where {{ is_affected('customers.customer_id', 'customer_id') }}
