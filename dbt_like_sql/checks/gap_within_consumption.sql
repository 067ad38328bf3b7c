/*
name: gap_within_consumption
description: What moved in gaps is a part of what moved, but for falls of the meter within its jitter.
model: energy_*
severity: error
*/
select device_id, bucket, consumption_kwh, gap_kwh
from {{ ref(model) }}
where {{ recent() }}
    and gap_kwh > consumption_kwh + 1e-6
        + {{ field('total_energy_kwh').jitter_share }} * coalesce(greatest(total_energy_kwh_first, total_energy_kwh_last), 0)
