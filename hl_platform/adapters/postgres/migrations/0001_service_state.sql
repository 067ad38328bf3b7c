-- Service state of hl. The tables of readings are made from the stream declarations.

create schema if not exists hl;

create table hl.leases (
    service           text primary key,
    stage             text not null,
    epoch             bigint not null,
    instance_id       text not null,
    run_id            text not null,
    host              text not null,
    pid               integer not null,
    software_version  text not null,
    acquired_at       timestamptz not null,
    beat_at           timestamptz not null,
    released_at       timestamptz,
    stop_requested_at timestamptz
);
comment on table hl.leases is 'Who runs each service. Only the holder of the newest epoch may write.';
comment on column hl.leases.epoch is 'Rises with every new holder; a writer with an older one is fenced off.';
comment on column hl.leases.beat_at is 'Last heartbeat, by this database''s clock.';
comment on column hl.leases.released_at is 'When the holder ended by itself; null while it runs.';
comment on column hl.leases.stop_requested_at is 'Set to ask the holder to flush, release and end.';

create table hl.accounts (
    service         text not null,
    stage           text not null,
    stream          text not null,
    received        bigint not null default 0,
    forwarded       bigint not null default 0,
    dead_lettered   bigint not null default 0,
    duplicates      bigint not null default 0,
    corrected       bigint not null default 0,
    dropped         bigint not null default 0,
    in_flight       bigint not null default 0,
    last_reading_at timestamptz,
    updated_at      timestamptz not null default now(),
    primary key (service, stream)
);
comment on table hl.accounts is
    'Readings counted by each service since it first ran: '
    'received = forwarded + dead_lettered + duplicates + corrected + dropped + in_flight.';
comment on column hl.accounts.forwarded is 'Passed on: to Kafka by the bridge, as new rows by the sink, as frames by the live service.';
comment on column hl.accounts.corrected is 'Readings that changed a stored row of the same device and timestamp.';

create table hl.delays (
    service text not null,
    measure text not null,
    minute  timestamptz not null,
    counts  bigint[] not null,
    max_ms  double precision not null,
    primary key (service, measure, minute)
);
comment on table hl.delays is 'Histograms of delays by minute, of the last hour (buckets: core/histogram.py).';

create table hl.offsets (
    consumer_group  text not null,
    kafka_topic     text not null,
    kafka_partition integer not null,
    next_offset     bigint not null,
    epoch           bigint not null,
    service         text not null,
    updated_at      timestamptz not null default now(),
    primary key (consumer_group, kafka_topic, kafka_partition)
);
comment on table hl.offsets is 'Where each sink continues; committed in the same transaction as the rows before it.';
comment on column hl.offsets.epoch is 'Rises with every assignment of the partition; a writer with an older one is fenced off.';

-- Makes the partition of a table of readings that holds one UTC day, if it is not there yet.
-- Attaching blocks neither readers nor writers of the table.
create function hl.ensure_partition(table_name text, day date) returns boolean
language plpgsql as $$
declare
    partition_name text := table_name || '_p' || to_char(day, 'YYYYMMDD');
    from_time timestamptz := day::timestamp at time zone 'UTC';
    to_time timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if to_regclass(format('public.%I', partition_name)) is not null then
        return false;
    end if;
    -- Two sinks may want the same day at once.
    perform pg_advisory_xact_lock(hashtextextended('hl.ensure_partition.' || partition_name, 0));
    if to_regclass(format('public.%I', partition_name)) is not null then
        return false;
    end if;
    execute format('create table public.%I (like public.%I including all)', partition_name, table_name);
    execute format(
        'alter table public.%I attach partition public.%I for values from (%L) to (%L)',
        table_name, partition_name, from_time, to_time);
    return true;
exception when check_violation then
    -- The catch-all partition holds readings of that day already, from when the retention was shorter:
    -- there they stay, and the day's further readings with them.
    return false;
end
$$;

-- The function of TimescaleDB, so that a query written for it runs where the extension is absent.
do $$
begin
    if not exists (select from pg_extension where extname = 'timescaledb') then
        create function public.time_bucket(bucket_width interval, ts timestamptz) returns timestamptz
        language sql immutable strict parallel safe
        -- 2000-01-03, a Monday, is the extension's own origin.
        return date_bin(bucket_width, ts, timestamptz '2000-01-03 00:00:00+00');
    end if;
end
$$;
