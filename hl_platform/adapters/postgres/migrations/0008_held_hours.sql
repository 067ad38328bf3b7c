-- Who writes the live readings of many devices holds a lock of their hour, instead of one of each device's mark.

alter table hl.dirty add column known_at timestamptz;
comment on column hl.dirty.known_at is
    'Of a UTC hour: the time of a reading in it, the first by which it was marked; null: none is known.';

-- With a device in it, no plan can go through all devices of an hour to find one.
drop index hl.dirty_by_bucket;
create index dirty_by_bucket on hl.dirty (model, bucket, device_id);

create function hl.clock() returns timestamptz language sql volatile return clock_timestamp();
comment on function hl.clock is 'What time it is; in tests, another one.';

create function hl.hour_number(at timestamptz) returns integer
language sql immutable strict parallel safe
return (date_part('epoch', at) / 3600)::integer;
comment on function hl.hour_number is 'Number of the UTC hour that begins then, since 1970.';

create function hl.hours_held(table_name text) returns setof integer
language sql volatile as $held$
    select objid::bigint::integer from pg_locks
    where locktype = 'advisory' and objsubid = 2 and granted
        and classid = (hashtext('hl.hours.' || table_name)::bigint & 4294967295)::oid
        and database = (select oid from pg_database where datname = current_database())
$held$;
comment on function hl.hours_held is
    'The hours, by number, that somebody is writing live readings of. Their marks must not be taken.';
