-- What energy costs: rates that a household writes, and prices of the spot market.

create table hl.tariffs (
    id          bigint generated always as identity primary key,
    name        text not null check (name <> ''),
    stream      text not null default 'energy',
    device_id   text,
    valid_from  timestamptz not null,
    valid_to    timestamptz check (valid_to > valid_from),
    kind        text not null check (kind in ('flat', 'time_of_use', 'spot')),
    price_per_kwh double precision not null default 0,
    currency    text not null check (currency ~ '^[A-Z]{3}$'),
    weekdays    smallint not null default 127 check (weekdays between 1 and 127),
    local_from  time not null default '00:00' check (extract(epoch from local_from)::integer % 3600 = 0),
    local_to    time not null default '24:00' check (extract(epoch from local_to)::integer % 3600 = 0),
    area        text check ((area is not null) = (kind = 'spot')),
    standing_charge_per_day double precision not null default 0,
    check (local_from <> local_to),
    check (kind = 'time_of_use' or (weekdays = 127 and local_from = '00:00' and local_to = '24:00'))
);
create unique index tariffs_key
    on hl.tariffs (stream, coalesce(device_id, ''), valid_from, kind, weekdays, local_from);
comment on table hl.tariffs is
    'Rates. Of those that match an hour''s begin one counts: a device''s own before one for all, then the one that is '
    'valid since last, then time of use before the others. So a new tariff needs no end of the old one.';
comment on column hl.tariffs.name is 'Of the tariff; several rates may share one.';
comment on column hl.tariffs.device_id is 'Which meter; null: all of the stream.';
comment on column hl.tariffs.valid_from is 'Inclusive. Within an hour: it counts from the next hour on.';
comment on column hl.tariffs.valid_to is 'Exclusive; null: until further notice.';
comment on column hl.tariffs.price_per_kwh is 'Of a spot tariff what comes on top of the market''s price.';
comment on column hl.tariffs.weekdays is
    'Of time of use: bits, Monday 1 to Sunday 64. A time that crosses midnight belongs to the day that it began on.';
comment on column hl.tariffs.local_from is 'Of time of use: on the household''s clock, inclusive. Full hours only.';
comment on column hl.tariffs.local_to is 'Exclusive; before local_from: on the next day. Full hours only.';
comment on column hl.tariffs.standing_charge_per_day is
    'For each meter that it matches and each local day, by the rate at the day''s begin.';

create table hl.spot_prices (
    area          text not null,
    start_at      timestamptz not null,
    end_at        timestamptz not null check (end_at > start_at and end_at <= start_at + interval '1 day'),
    price_per_kwh double precision not null,
    primary key (area, start_at)
);
comment on table hl.spot_prices is
    'Prices of the spot market. An hour''s price is their mean, weighted by time; an hour that they do not cover, or '
    'cover twice, has none.';
comment on column hl.spot_prices.end_at is 'Exclusive; at most a day behind start_at.';
