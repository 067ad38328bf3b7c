-- The offsets that accounts cover, the alerts of services, and the history of what did not balance.

create table hl.coverage (
    stage           text not null check (stage in ('bridge', 'sink')),
    bridge          text not null,
    stream          text not null,
    kind            text not null check (kind in ('forwarded', 'dead_lettered', 'dropped', 'repeated')),
    kafka_topic     text not null,
    kafka_partition integer not null,
    n_records       bigint not null,
    next_offset     bigint not null,
    updated_at      timestamptz not null default now(),
    primary key (stage, bridge, stream, kind, kafka_topic, kafka_partition)
);
comment on table hl.coverage is
    'How many records of each bridge lie in each Kafka partition, as the bridge and as the sink counted them. '
    'Written in the transaction of the account that it covers.';
comment on column hl.coverage.bridge is 'The service that wrote the records; empty: replays and records of other programs.';
comment on column hl.coverage.kafka_topic is 'Empty: counted before offsets were kept.';
comment on column hl.coverage.next_offset is 'After the last of these records; where a successor looks for more.';

-- What was counted before this migration is covered by no offset, and must balance all the same.
insert into hl.coverage (stage, bridge, stream, kind, kafka_topic, kafka_partition, n_records, next_offset)
select 'bridge', a.service, a.stream, c.kind, '', 0, c.n_records, 0
from hl.accounts as a
cross join lateral (values ('forwarded', a.forwarded), ('dead_lettered', a.dead_lettered)) as c (kind, n_records)
where a.stage = 'bridge' and c.n_records > 0;

alter table hl.offsets add column first_offset bigint;
comment on column hl.offsets.first_offset is
    'next_offset less the records received from this Kafka partition: the first one, unless the position was moved. '
    'Null where the group keeps no account.';

-- One partition of each group stands for what all of them had received.
update hl.offsets as o
set first_offset = o.next_offset - case
    when o.kafka_partition = (select min(p.kafka_partition) from hl.offsets as p
                              where p.consumer_group = o.consumer_group and p.kafka_topic = o.kafka_topic)
    then (select coalesce(sum(a.received), 0) from hl.accounts as a
          where a.stage = 'sink' and o.consumer_group = 'timescaledb-' || a.stream)
    else 0 end
where o.consumer_group like 'timescaledb-%';

create table hl.alerts (
    service text not null,
    stream  text not null,
    code    text not null,
    message text not null,
    since   timestamptz not null default now(),
    primary key (service, stream, code)
);
comment on table hl.alerts is 'What a person should know now. A service writes its own with each heartbeat; those of a dead one stay until its successor beats.';
comment on column hl.alerts.stream is 'Whose condition it is; empty: of the whole service.';

create table hl.balances (
    stream      text not null,
    stage       text not null,
    from_at     timestamptz not null,
    to_at       timestamptz not null,
    n_records   bigint not null,
    explanation text not null,
    primary key (stream, stage, from_at)
);
comment on table hl.balances is 'Comparisons of the accounts: one row for each time during which the difference was the same.';
comment on column hl.balances.n_records is 'By how many records the accounts differ; 0: they balance.';
comment on column hl.balances.to_at is 'The last comparison that found this difference.';
