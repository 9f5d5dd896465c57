{{ config(unique_key=['ordered_on', 'country_code']) }}

{% call affected_keys() %}
    select distinct
        ordered_on,
        _customer_country as country_code
    from {{ changes(ref('fct_orders')) }}
{% endcall %}

select
    ordered_on,
    _customer_country as country_code,
    count(*) as orders,
    cast(sum(case when is_revenue then order_amount else 0 end) as decimal(18, 2)) as revenue,
    cast(sum(paid_amount) as decimal(18, 2)) as paid_amount
from {{ ref('fct_orders') }}
where {{ is_affected(['ordered_on', '_customer_country'], ['ordered_on', 'country_code']) }}
group by ordered_on, _customer_country
