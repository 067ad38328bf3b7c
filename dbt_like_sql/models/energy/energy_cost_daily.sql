/*
name: energy_cost_daily
description: What each meter's energy costs in each of the household's days, with the standing charge.
materialization: view
grain: [device_id, bucket]
time_column: bucket
columns:
  device_id: Which meter
  bucket: Begin of the local day, inclusive
  bucket_end: End of the local day, exclusive
  consumption_kwh: Energy that the meter moved (kWh)
  priced_kwh: The part of it whose price is known (kWh)
  n_hours: Hours that something is known of
  n_hours_without_price: Those of them that have no price; their cost is not in `cost`
  energy_cost: Sum of the hours that have a price; null if none has, or if they have several currencies (currency)
  standing_charge: Of the rate in force when the day begins; null if none is, or if it is in another currency (currency)
  cost: Energy and standing charge together; null without a price (currency)
  currency: Of all of it; null if there is none, or more than one
*/
select
    day.device_id,
    day.bucket,
    day.bucket_end,
    day.consumption_kwh,
    hours.priced_kwh,
    hours.n_hours,
    hours.n_hours_without_price,
    hours.energy_cost,
    standing.charge as standing_charge,
    hours.energy_cost + coalesce(standing.charge, 0) as cost,
    hours.currency
from {{ ref('energy_daily') }} as day
cross join lateral (
    select
        coalesce(sum(h.consumption_kwh) filter (where h.price_per_kwh is not null), 0) as priced_kwh,
        count(*) as n_hours,
        count(*) filter (where h.price_per_kwh is null) as n_hours_without_price,
        -- A sum over two currencies would mean nothing.
        case when min(h.currency) = max(h.currency) then sum(h.cost) end as energy_cost,
        case when min(h.currency) = max(h.currency) then min(h.currency) end as currency
    from {{ ref('energy_cost_hourly') }} as h
    where h.device_id = day.device_id and h.bucket >= day.bucket and h.bucket < day.bucket_end
) as hours
left join lateral (
    select t.standing_charge_per_day as charge, t.currency
    from hl.tariffs as t
    where t.stream = 'energy'
        and (t.device_id is null or t.device_id = day.device_id)
        and t.valid_from <= day.bucket
        and (t.valid_to is null or t.valid_to > day.bucket)
    -- Of the rates of a time of use any one may tell it.
    order by t.device_id is null, t.valid_from desc, t.standing_charge_per_day desc
    limit 1
) as standing on standing.currency = hours.currency
