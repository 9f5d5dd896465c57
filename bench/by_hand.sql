-- The marts in one go from the files that seeds/make_deliveries.py writes: what DuckDB alone needs for a first build.
-- It knows what the platform must not: plain comma-separated files, columns in one order, money with two decimals,
-- times that end in Z, no retraction, no erasure, one products file. Nothing is kept for a next build.
-- Run by by_hand.py, which sets the variables `landing` and `seeds` and attaches the file of the marts as `made`.

-- Whole lines: a line with a surplus value is seen by its length. A temporary table keeps the lines in their order, so
-- that a row's id less that of the first row of its file is its line number, and only quarantined rows have to ask.
create macro lines(feed) as table
select
    filename[strlen(getvariable('landing')) + 2:]::batch as batch_id,
    string_split(line, ',') as v
from read_csv(
    getvariable('landing') || '/' || feed || '/*/*.csv',
    auto_detect = false,
    header = true,
    delim = '\x01',
    quote = '',
    escape = '',
    columns = {'line': 'varchar'},
    filename = true
);

-- A cast takes more than the contract does. A number that comes back as it went in is of the form; for a time a glob is
-- cheaper than that, and both are cheaper than a regular expression.
create macro is_timestamp(text) as coalesce(
    text glob '[12][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]Z'
    and try_cast(text as timestamp) is not null,
    false
);
create macro is_money(text) as coalesce(try_cast(text as decimal(18, 2))::varchar = text, false);
create macro is_number(text) as coalesce(try_cast(text as bigint)::varchar = text, false);

-- A batch id is two bytes this way.
create type batch as enum (
    select file[strlen(getvariable('landing')) + 2:] from glob(getvariable('landing') || '/*/*/*.csv') order by all
);
create temp table statuses as
select status, is_revenue from read_csv(getvariable('seeds') || '/order_statuses.csv');
create temp table countries as
select * from read_csv(getvariable('seeds') || '/countries.csv', all_varchar = true);

create temp table orders as
with judged as (
    select
        batch_id,
        v[2] as order_id,
        v[3] as customer_id,
        v[4] as product_id,
        v[5] as status,
        try_cast(v[6] as bigint) as quantity,
        try_cast(v[7] as decimal(18, 2)) as unit_price,
        try_cast(v[8] as timestamp) as ordered_at,
        try_cast(v[9] as timestamp) as changed_at,
        try_cast(v[10] as bigint) as change_no,
        len(v) <> 10 as is_malformed,
        v[1] = 'D' as is_delete,
        v[1] in ('I', 'U', 'D') as is_op,
        v[5] in (select status from statuses) as is_status,
        is_number(v[6]) and try_cast(v[6] as bigint) between 1 and 999999 as is_quantity,
        is_money(v[7]) and try_cast(v[7] as decimal(18, 2)) >= 0 as is_amount,
        is_timestamp(v[8]) as is_ordered_at,
        is_timestamp(v[9]) as is_changed_at,
        is_number(v[10]) as is_change_no
    from lines('orders')
)

select
    batch_id,
    is_delete,
    order_id,
    customer_id,
    product_id,
    status,
    try_cast(quantity as integer) as quantity,
    unit_price,
    ordered_at,
    changed_at,
    change_no,
    case
        when is_malformed then 'malformed_line'
        when
            is_op and order_id <> '' and is_changed_at and is_change_no
            and (
                is_delete
                or (
                    is_status and is_quantity and is_amount and is_ordered_at
                    and customer_id <> '' and product_id <> ''
                )
            )
            then null
        else concat_ws(
            ',',
            if(not is_delete and not is_amount, 'bad_amount', null),
            if(not is_change_no, 'bad_change_no', null),
            if(not is_op, 'bad_op', null),
            if(not is_delete and not is_quantity, 'bad_quantity', null),
            if(not is_changed_at or (not is_delete and not is_ordered_at), 'bad_timestamp', null),
            if(order_id = '', 'missing_key', null),
            if(not is_delete and (customer_id = '' or product_id = ''), 'missing_reference', null),
            if(not is_delete and not is_status, 'unknown_status', null)
        )
    end as reasons
from judged;

create temp table payments as
with judged as (
    select
        batch_id,
        v[1] as payment_id,
        v[2] as order_id,
        v[3] as kind,
        try_cast(v[4] as decimal(18, 2)) as amount,
        try_cast(v[5] as timestamp) as paid_at,
        len(v) <> 5 as is_malformed,
        v[3] in ('charge', 'refund') as is_kind,
        is_money(v[4]) and try_cast(v[4] as decimal(18, 2)) > 0 as is_amount,
        is_timestamp(v[5]) as is_paid_at
    from lines('payments')
)

select
    batch_id,
    payment_id,
    order_id,
    kind,
    amount,
    paid_at,
    case
        when is_malformed then 'malformed_line'
        when is_kind and is_amount and is_paid_at and payment_id <> '' and order_id <> '' then null
        else concat_ws(
            ',',
            if(not is_amount, 'bad_amount', null),
            if(not is_kind, 'bad_kind', null),
            if(not is_paid_at, 'bad_timestamp', null),
            if(payment_id = '', 'missing_key', null),
            if(order_id = '', 'missing_reference', null)
        )
    end as reasons
from judged;

create temp table customers as
with judged as (
    select
        batch_id,
        v,
        len(v) <> 5 as is_malformed,
        v[4] in (select country_code from countries) as is_country,
        is_timestamp(v[5]) as is_signed_up_at
    from lines('customers')
)

select
    batch_id,
    split_part(batch_id, '/', 2)::date as extracted_on,
    if(is_malformed or v[1] = '', null, v[1]) as customer_id,
    nullif(v[2], '') as name,
    nullif(v[3], '') as email,
    v[4] as country_code,
    try_cast(v[5] as timestamp) as signed_up_at,
    case
        when is_malformed then 'malformed_line'
        when is_country and is_signed_up_at and v[1] <> '' then null
        else concat_ws(
            ',',
            if(not is_signed_up_at, 'bad_timestamp', null),
            if(v[1] = '', 'missing_key', null),
            if(not is_country, 'unknown_country', null)
        )
    end as reasons
from judged;

create temp table unique_payments as
select payment_id, latest.order_id, latest.kind, latest.amount, latest.paid_at
from (
    select
        payment_id,
        max({'paid_at': paid_at, 'amount': amount, 'order_id': order_id, 'kind': kind}) as latest
    from payments
    where reasons is null
    group by payment_id
);

create temp table extracts as
select extracted_on, row_number() over (order by extracted_on) as extract_no
from (select distinct extracted_on from customers where customer_id is not null);

-- A stay is a time in which a customer is in every extract: between two of them a number of an extract is left out.
create temp table presence as
with shown as (
    select
        customer_id,
        extracted_on,
        max({
            'name': coalesce(name, ''),
            'email': coalesce(email, ''),
            'country_code': country_code,
            'signed_up_at': signed_up_at
        }) filter (where reasons is null) as valid
    from customers
    where customer_id is not null
    group by customer_id, extracted_on
)

select
    customer_id,
    extracted_on,
    extract_no,
    valid,
    extract_no - row_number() over (partition by customer_id order by extract_no) as stay
from shown
inner join extracts using (extracted_on);

-- Only the lines above have to keep their order.
set preserve_insertion_order = false;

create schema made.marts;

create table made.marts.dim_customers as
with latest as (
    select
        customer_id,
        arg_max(valid, extract_no) filter (where valid is not null) as valid,
        min(extracted_on) filter (where valid is not null) as first_seen_on,
        max(extracted_on) as last_seen_on
    from presence
    group by customer_id
)

select
    customer_id,
    nullif(valid.name, '') as name,
    nullif(valid.email, '') as email,
    country_code,
    country_name,
    region,
    valid.signed_up_at,
    false as is_erased,
    last_seen_on < (select max(extracted_on) from extracts) as is_deleted,
    first_seen_on,
    last_seen_on
from latest
inner join countries on valid.country_code = countries.country_code;

create table made.marts.dim_customers_history as
with ended as (
    select *, max(extract_no) over (partition by customer_id, stay) + 1 as absent_extract_no
    from presence
),

compared as (
    select
        *,
        lag(stay) over in_order as previous_stay,
        lag(valid) over in_order as previous
    from ended
    where valid is not null
    window in_order as (partition by customer_id order by extract_no)
),

versions as (
    select
        *,
        lead(extracted_on) over (partition by customer_id, stay order by extracted_on) as next_extracted_on
    from compared
    where
        stay is distinct from previous_stay
        or (valid.name, valid.email, valid.country_code)
        is distinct from (previous.name, previous.email, previous.country_code)
)

select
    customer_id,
    nullif(valid.name, '') as name,
    nullif(valid.email, '') as email,
    valid.country_code,
    versions.extracted_on as valid_from,
    coalesce(next_extracted_on, absent.extracted_on) as valid_to
from versions
left join extracts as absent on absent_extract_no = absent.extract_no;

create table made.marts.dim_products_history as
select
    product_id,
    product_name,
    category,
    try_cast(list_price as decimal(18, 2)) as list_price,
    as_of::timestamp as valid_from,
    null::timestamp as valid_to
from read_csv(getvariable('landing') || '/products/current.csv', all_varchar = true);

-- Which change is the latest: the id of its row is all that a group has to hold. Where two have the same position, both
-- are the same row again or both delete. `_country_code` is what the daily revenue is by.
create table made.marts.fct_orders as
with existing_orders as (
    select *
    from orders
    where
        not is_delete
        and rowid in (
            select arg_max(rowid, epoch_us(changed_at)::hugeint * 1_000_000_000_000_000_000 + change_no)
            from orders
            where reasons is null
            group by order_id
        )
),

paid as (
    select order_id, sum(if(kind = 'refund', -amount, amount)) as paid_amount
    from unique_payments
    group by order_id
)

select
    order_id,
    customer_id,
    customers.customer_id is not null as is_customer_known,
    product_id,
    status,
    is_revenue,
    ordered_at,
    ordered_at::date as ordered_on,
    quantity,
    unit_price,
    (quantity * unit_price)::decimal(18, 2) as order_amount,
    coalesce(paid.paid_amount, 0)::decimal(18, 2) as paid_amount,
    (quantity * unit_price - coalesce(paid.paid_amount, 0))::decimal(18, 2) as open_amount,
    coalesce(customers.country_code, 'unknown') as _country_code
from existing_orders
inner join statuses using (status)
left join made.marts.dim_customers as customers using (customer_id)
left join paid using (order_id);

create table made.marts.fct_payments as
select
    payment_id,
    payments.order_id,
    kind,
    amount,
    if(kind = 'refund', -amount, amount)::decimal(18, 2) as signed_amount,
    paid_at,
    orders.order_id is not null as is_order_known
from unique_payments as payments
left join made.marts.fct_orders as orders on payments.order_id = orders.order_id;

create table made.marts.fct_daily_revenue as
select
    ordered_on,
    _country_code as country_code,
    count(*) as orders,
    sum(if(is_revenue, order_amount, 0))::decimal(18, 2) as revenue,
    sum(paid_amount)::decimal(18, 2) as paid_amount
from made.marts.fct_orders
group by all;

create temp view judged_rows as
select batch_id, rowid as row_id, reasons from orders
union all
select batch_id, rowid, reasons from payments
union all
select batch_id, rowid, reasons from customers;

create temp table batches as
select
    split_part(batch_id, '/', 1) as feed,
    batch_id,
    coalesce(delivered_rows, 0) as delivered_rows,
    coalesce(quarantined_rows, 0) as quarantined_rows,
    first_row_id
from (select unnest(enum_range(null::batch))::batch as batch_id)
left join (
    select batch_id, count(*) as delivered_rows, count(reasons) as quarantined_rows, min(row_id) as first_row_id
    from judged_rows
    group by batch_id
) using (batch_id);

create table made.marts.landing_audit as
select
    feed,
    batch_id::varchar as batch_id,
    'live' as status,
    delivered_rows,
    delivered_rows - quarantined_rows as valid_rows,
    quarantined_rows
from batches;

create table made.marts.quarantine as
select
    feed,
    batch_id::varchar as batch_id,
    reasons,
    row_id - first_row_id + 1 as row_no
from judged_rows
inner join batches using (batch_id)
where reasons is not null;
