/*
name: energy_cost_monthly
description: What each meter's energy costs in each of the household's months, with the standing charge.
materialization: view
grain: [device_id, bucket]
time_column: bucket
columns:
  device_id: Which meter
  bucket: Begin of the local month, inclusive
  bucket_end: End of the local month, exclusive
  consumption_kwh: Energy that the meter moved (kWh)
  priced_kwh: The part of it whose price is known (kWh)
  n_hours: Hours that something is known of
  n_hours_without_price: Those of them that have no price; their cost is not in `cost`
  energy_cost: Sum of the days that have a price; null if none has, or if they have several currencies (currency)
  standing_charge: Sum of the days that have one (currency)
  cost: Energy and standing charge together; null without a price (currency)
  currency: Of all of it; null if there is none, or more than one
*/
select
    month.device_id,
    month.bucket,
    month.bucket_end,
    month.consumption_kwh,
    days.priced_kwh,
    days.n_hours,
    days.n_hours_without_price,
    days.energy_cost,
    days.standing_charge,
    days.energy_cost + coalesce(days.standing_charge, 0) as cost,
    days.currency
from {{ ref('energy_monthly') }} as month
cross join lateral (
    select
        priced_kwh, n_hours, n_hours_without_price,
        -- A sum over two currencies would mean nothing, and neither would one that leaves out a day with both.
        case when is_one then energy_cost end as energy_cost,
        case when is_one then standing_charge end as standing_charge,
        case when is_one then currency end as currency
    from (
        select
            coalesce(sum(d.priced_kwh), 0) as priced_kwh,
            coalesce(sum(d.n_hours), 0)::bigint as n_hours,
            coalesce(sum(d.n_hours_without_price), 0)::bigint as n_hours_without_price,
            sum(d.energy_cost) as energy_cost,
            sum(d.standing_charge) as standing_charge,
            min(d.currency) as currency,
            min(d.currency) = max(d.currency)
                and not bool_or(d.currency is null and d.n_hours > d.n_hours_without_price) as is_one
        from {{ ref('energy_cost_daily') }} as d
        where d.device_id = month.device_id and d.bucket >= month.bucket and d.bucket < month.bucket_end
    ) as sums
) as days
