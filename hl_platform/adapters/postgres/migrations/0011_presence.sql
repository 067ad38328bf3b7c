-- Which devices are there, as their status topics say.

create table hl.presence (
    stream    text not null,
    device_id text not null,
    online    boolean not null,
    since     timestamptz not null default now(),
    primary key (stream, device_id)
);
comment on table hl.presence is 'What a device, or its last will, said at last on the status topic of its stream.';
comment on column hl.presence.since is 'When hl heard of it first, by the database''s clock.';
