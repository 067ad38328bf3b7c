/*
name: energy_cost_hourly
description: What each meter's energy costs in each hour, by the rate that is in force when the hour begins.
materialization: view
grain: [device_id, bucket]
time_column: bucket
columns:
  device_id: Which meter
  bucket: Begin of the hour, inclusive
  bucket_end: End of the hour, exclusive
  consumption_kwh: Energy that the meter moved (kWh)
  tariff: Name of the tariff in force; null if none is
  price_per_kwh: What a kWh costs; null where no tariff is in force or its spot price is not known (currency/kWh)
  cost: Consumption times price, in the currency; null without a price (currency)
  currency: Of the price, such as EUR; null without a price
*/
select
    hour.device_id,
    hour.bucket,
    hour.bucket_end,
    hour.consumption_kwh,
    rate.name as tariff,
    price.per_kwh as price_per_kwh,
    hour.consumption_kwh * price.per_kwh as cost,
    case when price.per_kwh is not null then rate.currency end as currency
from {{ ref('energy_hourly') }} as hour
cross join lateral (
    select
        local_at::time as local_time,
        -- A time of use that began before midnight belongs to the day before.
        1 << (extract(isodow from local_at)::integer - 1) as today,
        1 << (extract(isodow from local_at - interval '1 day')::integer - 1) as yesterday
    from (select hl.local_time(hour.bucket) as local_at) as local
) as clock
left join lateral (
    select t.name, t.kind, t.price_per_kwh, t.currency, t.area
    from hl.tariffs as t
    where t.stream = 'energy'
        and (t.device_id is null or t.device_id = hour.device_id)
        and t.valid_from <= hour.bucket
        and (t.valid_to is null or t.valid_to > hour.bucket)
        and case
            when t.local_from < t.local_to
                then clock.local_time >= t.local_from and clock.local_time < t.local_to and t.weekdays & clock.today > 0
            else (clock.local_time >= t.local_from and t.weekdays & clock.today > 0)
                or (clock.local_time < t.local_to and t.weekdays & clock.yesterday > 0)
        end
    order by t.device_id is null, t.valid_from desc, t.kind = 'time_of_use' desc, t.id desc
    limit 1
) as rate on true
left join lateral (
    select sum(s.price_per_kwh * date_part('epoch', part.length)) / date_part('epoch', sum(part.length)) as per_kwh
    from hl.spot_prices as s
    cross join lateral (
        select least(s.end_at, hour.bucket_end) - greatest(s.start_at, hour.bucket) as length
    ) as part
    where s.area = rate.area
        and s.start_at < hour.bucket_end and s.end_at > hour.bucket
        and s.start_at >= hour.bucket - interval '1 day'
    having sum(part.length) = hour.bucket_end - hour.bucket
) as spot on rate.kind = 'spot'
cross join lateral (
    select case when rate.kind = 'spot' then spot.per_kwh + rate.price_per_kwh else rate.price_per_kwh end as per_kwh
) as price
