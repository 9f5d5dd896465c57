-- Each data line of a live batch is valid or quarantined, and none of a retracted batch counts.
select
    batch_id,
    status,
    delivered_rows,
    valid_rows,
    quarantined_rows
from {{ ref('landing_audit') }}
where valid_rows + quarantined_rows <> case when status = 'live' then delivered_rows else 0 end
