{{ config(post_hook="{{ erase('customer_id', ['name', 'email'], ref('erased_customers')) }}") }}

with landed as (
    {{ land('customers', ['customer_id', 'name', 'email', 'country_code', 'signed_up_at']) }}
)

select
    _batch_id,
    _load_no,
    _row_no,
    _is_malformed,
    _file_size,
    _file_modified_ns,
    customer_id,
    -- A name or an email that no customer can be read from could never be erased.
    case when customer_id is not null then name end as name,
    case when customer_id is not null then email end as email,
    country_code,
    signed_up_at
from landed
