-- Problem: the source deletes a row, and tables that only ever insert and update keep it.
-- Usually patched in: a nightly comparison of ids, or a delete statement in the workflow.
-- Why here: a delete is a change like any other, and may itself arrive late, twice, or before a later re-creation.
-- How it corrects itself: the tombstone takes part in latest_order_changes.sql; an order whose latest change is one
-- is not here, and its key is affected downstream like that of any other change.
{{ config(materialized='view') }}

select
    order_id,
    customer_id,
    product_id,
    status,
    quantity,
    unit_price,
    ordered_at
from {{ ref('latest_order_changes') }}
where op <> 'D'
