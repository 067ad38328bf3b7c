-- What the aggregates need beside their own tables: which buckets are dirty, where raw readings begin, how the
-- models were deployed and refreshed, and what counters did that needs a person's eye.

create schema materialized;
comment on schema materialized is
    'Materialized buckets of the models. Query the view of the same name in schema public instead: it is always right.';

create table hl.dirty (
    model     text not null,
    device_id text not null,
    bucket    timestamptz not null,
    since     timestamptz not null default clock_timestamp(),
    primary key (model, device_id, bucket)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index dirty_by_bucket on hl.dirty (model, bucket);
comment on table hl.dirty is
    'Buckets whose rows below have changed since they were materialized. Written in the transaction of the change.';
comment on column hl.dirty.model is 'The aggregate that has to look again; those above it follow from it.';
comment on column hl.dirty.bucket is
    'Begin of the bucket. For a model over readings: of the UTC hour, whatever the household''s own hours are.';
comment on column hl.dirty.since is 'When it became dirty first.';

create table hl.floors (
    table_name text primary key,
    floor      timestamptz not null
);
comment on table hl.floors is
    'Where complete raw readings begin. Buckets that end before it are never computed from raw readings again.';

create table hl.models (
    model       text primary key,
    digest      text not null,
    version     text not null,
    deployed_at timestamptz not null default now()
);
comment on table hl.models is 'The deployed models. Another digest means that its objects are made anew.';

create table hl.refreshes (
    id           bigint generated always as identity primary key,
    model        text not null,
    refreshed_at timestamptz not null default now(),
    duration_ms  double precision not null default 0,
    n_marks      integer not null default 0,
    n_buckets    integer not null default 0,
    version      text not null,
    next_offsets jsonb not null default '{}'
);
create index refreshes_by_model on hl.refreshes (model, id);
comment on table hl.refreshes is
    'Each refresh of a model. A materialized row names the refresh that made it (refresh_id).';
comment on column hl.refreshes.version is 'Version of hl that computed it.';
comment on column hl.refreshes.next_offsets is
    'By Kafka topic and partition, the offset before which all readings were seen by this refresh.';

create table hl.counter_events (
    stream        text not null,
    field         text not null,
    device_id     text not null,
    at            timestamptz not null,
    before_at     timestamptz not null,
    before        double precision not null,
    after         double precision not null,
    kind          text not null check (kind in ('reset', 'jump')),
    moved         double precision not null,
    detected_at   timestamptz not null default now(),
    override      double precision,
    override_by   text,
    override_why  text,
    override_at   timestamptz,
    primary key (stream, field, device_id, at)
);
comment on table hl.counter_events is
    'Where a counter fell (reset) or rose faster than it can (jump). A person may override what it moved.';
comment on column hl.counter_events.at is 'Time of the reading after the event.';
comment on column hl.counter_events.moved is 'What is taken to have moved, unless overridden, in the counter''s unit.';
comment on column hl.counter_events.override is 'What a person says it moved; null: nobody said.';

-- Marks one model's buckets for a device, from one time to another (both inclusive), by UTC hours. An existing mark is
-- locked but not changed: whoever refreshes it meanwhile waits for us or is waited for, so no change is lost.
create function hl.mark(model text, device text, from_time timestamptz, to_time timestamptz) returns void
language sql as $$
    insert into hl.dirty (model, device_id, bucket)
    select $1, $2, hour
    from generate_series(date_bin('1 hour', $3, 'epoch'), date_bin('1 hour', $4, 'epoch'), interval '1 hour') as hour
    order by hour
    on conflict (model, device_id, bucket) do update set since = excluded.since where false
$$;

-- A step of a counter that looks wrong: what it moved, by a person's word or else by rule.
create function hl.moved(
    stream text, field text, device text, at timestamptz, before float8, after float8, hours float8,
    max_rate_per_hour float8, jitter_share float8
) returns float8
language sql stable as $$
    select coalesce(
        (select e.override from hl.counter_events as e
         where e.stream = $1 and e.field = $2 and e.device_id = $3 and e.at = $4),
        case
            -- A fall within the counter's own jitter is no reset, and is made up for by its next rise.
            when $6 < $5 and $6 >= $5 * (1 - $9) then $6 - $5
            -- After a reset it counts from zero, if it can have come that far.
            when $6 < $5 and $6 <= coalesce($8, 'infinity') * greatest($7, 1) then $6
            else 0
        end)
$$;

create function hl.mark_overridden() returns trigger
language plpgsql as $$
declare
    event hl.counter_events := coalesce(new, old);
begin
    if new.override is distinct from old.override then
        perform hl.mark(event.stream || '_hourly', event.device_id,
                        greatest(event.before_at, event.at - interval '31 days'), event.at);
        if tg_op <> 'DELETE' then
            new.override_at := clock_timestamp();
        end if;
    end if;
    return coalesce(new, old);
end
$$;
create trigger mark_overridden before insert or update or delete on hl.counter_events
    for each row execute function hl.mark_overridden();

-- Seconds by key, summed up: what a state's time in each of its values is made of.
create function hl.add_seconds(sums jsonb, key text, seconds float8) returns jsonb
language sql immutable parallel safe as $$
    select case when $2 is null or coalesce($3, 0) = 0 then $1
           else jsonb_set($1, array[$2], to_jsonb(coalesce(($1 ->> $2)::float8, 0) + $3)) end
$$;
create aggregate hl.seconds_by(text, float8) (
    sfunc = hl.add_seconds, stype = jsonb, initcond = '{}', parallel = safe
);
create function hl.merge_seconds(sums jsonb, other jsonb) returns jsonb
language sql immutable parallel safe as $$
    select case when $2 is null then $1 when $1 is null or $1 = '{}' then $2 else (
        select coalesce(jsonb_object_agg(key, coalesce(($1 ->> key)::float8, 0) + coalesce(($2 ->> key)::float8, 0)), '{}')
        from (select jsonb_object_keys($1) as key union select jsonb_object_keys($2)) as keys) end
$$;
create aggregate hl.merged_seconds(jsonb) (
    sfunc = hl.merge_seconds, stype = jsonb, initcond = '{}', combinefunc = hl.merge_seconds, parallel = safe
);

-- Makes the partition of a table of materialized buckets that holds one UTC month or year, if it is not there yet.
create function hl.ensure_bucket_partition(model text, unit text, from_time timestamptz) returns boolean
language plpgsql as $$
declare
    partition_name text := model || '_p' || to_char(from_time at time zone 'UTC', case unit when 'year' then 'YYYY' else 'YYYYMM' end);
    to_time timestamptz := (from_time at time zone 'UTC' + ('1 ' || unit)::interval) at time zone 'UTC';
begin
    if to_regclass(format('materialized.%I', partition_name)) is not null then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('hl.ensure_partition.' || partition_name, 0));
    if to_regclass(format('materialized.%I', partition_name)) is not null then
        return false;
    end if;
    execute format('create table materialized.%I (like materialized.%I including all)', partition_name, model);
    execute format('alter table materialized.%I attach partition materialized.%I for values from (%L) to (%L)',
                   model, partition_name, from_time, to_time);
    return true;
-- duplicate_table: waiting for that lock does not tell this session what the other one has made.
exception when check_violation or duplicate_table then
    return false;
end
$$;

-- A partition of readings gets the triggers of its table, so that a change made to it directly is marked, too.
create or replace function hl.ensure_partition(table_name text, day date) returns boolean
language plpgsql as $$
declare
    partition_name text := table_name || '_p' || to_char(day, 'YYYYMMDD');
    from_time timestamptz := day::timestamp at time zone 'UTC';
    to_time timestamptz := (day + 1)::timestamp at time zone 'UTC';
    definition text;
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
    for definition in
        select replace(pg_get_triggerdef(oid), format(' ON public.%I ', table_name), format(' ON public.%I ', partition_name))
        from pg_trigger where tgrelid = to_regclass(format('public.%I', table_name)) and tgname like 'mark\_%'
    loop
        execute definition;
    end loop;
    return true;
exception when check_violation or duplicate_table then
    -- duplicate_table: the other one made it, of which waiting for the lock has told this session nothing.
    -- check_violation: the catch-all partition holds readings of that day already, from when the retention was shorter:
    -- there they stay, and the day's further readings with them.
    return false;
end
$$;
