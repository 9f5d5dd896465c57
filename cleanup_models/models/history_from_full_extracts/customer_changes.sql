-- Problem: a source sends all it has each day and says neither what changed nor who is gone.
-- Usually patched in: a job that compares with "yesterday", and has to be run again in order when a day came late.
-- Why here: an extract is compared with the one before it by date, not by arrival.
-- How it corrects itself: an extract that comes, changes or goes affects itself and the one after it, and no other;
-- what a customer looked like is then one row per change, from which history and present state follow.
{{ config(unique_key=['customer_id', 'extracted_on'], change_feed=['customer_id']) }}
{%- set shown_columns = ['state', 'name', 'email', 'country_code', 'signed_up_at'] %}

{% call affected_keys() %}
    with changed_extracts as (
        select extracted_on from {{ changes(ref('stg_customers')) }}
        union
        select extracted_on from {{ changes(ref('customer_extracts')) }}
    ),

    affected_extracts as (
        select extracted_on from changed_extracts
        union
        select min(extracts.extracted_on) as extracted_on
        from changed_extracts
        inner join {{ ref('customer_extracts') }} as extracts on changed_extracts.extracted_on < extracts.extracted_on
        group by changed_extracts.extracted_on
    ),

    compared as (
        select
            extracted_on,
            previous_extracted_on
        from {{ ref('compared_extracts') }}
        where extracted_on in (select extracted_on from affected_extracts)
    )

    select
        stored.customer_id,
        stored.extracted_on
    from {{ this }} as stored
    where stored.extracted_on in (select extracted_on from affected_extracts)
    union
    select
        delivered.customer_id,
        compared.extracted_on
    from compared
    inner join {{ ref('stg_customers') }} as delivered on compared.extracted_on = delivered.extracted_on
    where delivered.customer_id is not null
    union
    select
        delivered.customer_id,
        compared.extracted_on
    from compared
    inner join {{ ref('stg_customers') }} as delivered on compared.previous_extracted_on = delivered.extracted_on
    where delivered.customer_id is not null
    union
    select
        erased.customer_id,
        extracts.extracted_on
    from {{ changes(ref('erased_customers')) }} as erased
    cross join {{ ref('customer_extracts') }} as extracts
{% endcall %}

with compared as (
    {%- for extract in ['extracted_on', 'previous_extracted_on'] %}
    select
        delivered.customer_id,
        extracts.extracted_on,
        extracts.previous_extracted_on
    from {{ ref('compared_extracts') }} as extracts
    inner join {{ ref('stg_customers') }} as delivered on extracts.{{ extract }} = delivered.extracted_on
    where
        delivered.customer_id is not null
        and {{ is_affected(['delivered.customer_id', 'extracts.extracted_on'], ['customer_id', 'extracted_on']) }}
    {{ 'union' if not loop.last }}
    {%- endfor %}
),

needed as (
    select
        customer_id,
        extracted_on
    from compared
    union
    select
        customer_id,
        previous_extracted_on as extracted_on
    from compared
),

-- What speaks for a customer in an extract is the greatest valid row, else any: that he is there.
ranked as (
    select
        delivered.*,
        case when delivered.reasons is null then 'valid' else 'quarantined' end as state,
        row_number() over (
            partition by delivered.extracted_on, delivered.customer_id
            order by
                case when delivered.reasons is null then 0 else 1 end,
                coalesce(delivered.name, '') desc,
                coalesce(delivered.email, '') desc,
                delivered.country_code desc,
                delivered.signed_up_at_text desc
        ) as rank
    from {{ ref('stg_customers') }} as delivered
    inner join needed
        on delivered.customer_id = needed.customer_id and delivered.extracted_on = needed.extracted_on
),

shown as (
    select
        customer_id,
        extracted_on,
        state,
        case when state = 'valid' then name end as name,
        case when state = 'valid' then email end as email,
        case when state = 'valid' then country_code end as country_code,
        case when state = 'valid' then signed_up_at end as signed_up_at
    from ranked
    where rank = 1
)

select
    compared.customer_id,
    compared.extracted_on,
    compared.previous_extracted_on,
    coalesce(present.state, 'absent') as state,
    present.name,
    present.email,
    present.country_code,
    present.signed_up_at
from compared
left join shown as present
    on compared.customer_id = present.customer_id and compared.extracted_on = present.extracted_on
left join shown as past
    on compared.customer_id = past.customer_id and compared.previous_extracted_on = past.extracted_on
where
    -- The linter miscounts the indents of a loop of conditions. -- noqa: disable=LT02
    {%- for column in shown_columns %}
    present.{{ column }} is distinct from past.{{ column }}
    {{- ' or' if not loop.last }}
    {%- endfor %}
