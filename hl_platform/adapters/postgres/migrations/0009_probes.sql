-- Where the sink keeps the readings that `hl check` sends: beside the tables of readings, so that no aggregate, no
-- retention and no query of readings ever meets one.

create table hl.probes (
    stream      text not null,
    sent_at     timestamptz not null,
    received_at timestamptz not null,
    stored_at   timestamptz not null default clock_timestamp(),
    primary key (stream, sent_at)
);
comment on table hl.probes is 'Readings of `hl check`, which removes its own; what is older than an hour goes with the next.';
comment on column hl.probes.sent_at is 'The timestamp of the reading.';
