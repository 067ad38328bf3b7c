-- The index of the dead letters. The topics are the truth and hold the bytes; this makes them searchable and
-- keeps what became of each.

create table hl.dead_letters (
    id                    bigint generated always as identity primary key,
    dead_letter_topic     text not null,
    dead_letter_partition integer not null,
    dead_letter_offset    bigint not null,
    dead_lettered_at      timestamptz not null,
    stream                text not null,
    stage                 text not null,
    reason                text not null,
    detail                text not null,
    fingerprint           text not null,
    attempts              integer not null,
    first_failed_at       timestamptz not null,
    last_failed_at        timestamptz not null,
    version               text not null,
    declaration           text not null,
    sqlstate              text,
    column_name           text,
    device_id             text,
    mqtt_topic            text,
    qos                   integer,
    retained              boolean,
    received_at           timestamptz,
    bridge                text,
    kafka_topic           text,
    kafka_partition       integer,
    kafka_offset          bigint,
    kafka_time            timestamptz,
    truncated_from_bytes  bigint,
    sha256                text,
    replay_of             text,
    n_bytes               bigint not null,
    preview               text not null,
    state                 text not null default 'new'
        check (state in ('new', 'replayed', 'failed_again', 'discarded')),
    state_at              timestamptz not null default now(),
    state_by              text,
    state_reason          text,
    replay_id             uuid,
    failed_replay         text,
    failed_letter_offset  bigint,
    unique (dead_letter_topic, dead_letter_partition, dead_letter_offset),
    -- A sink that dies between a dead letter and its commit sends it twice; a topic made anew counts from 0 again.
    constraint dead_letters_of_one_record unique (kafka_topic, kafka_partition, kafka_offset, kafka_time)
);
create index dead_letters_by_stream on hl.dead_letters (stream, state, last_failed_at);
create index dead_letters_by_fingerprint on hl.dead_letters (fingerprint);
create index dead_letters_by_device on hl.dead_letters (device_id);

comment on table hl.dead_letters is
    'One row for each rejected record. Its bytes are in Kafka, at dead_letter_topic/partition/offset.';
comment on column hl.dead_letters.id is 'Rises in the order of the dead-letter topic.';
comment on column hl.dead_letters.dead_letter_topic is 'Kafka topic that holds the dead letter.';
comment on column hl.dead_letters.dead_letter_partition is 'Kafka partition that holds it.';
comment on column hl.dead_letters.dead_letter_offset is 'Its offset there.';
comment on column hl.dead_letters.dead_lettered_at is 'Kafka''s timestamp of the dead letter; its retention counts from here.';
comment on column hl.dead_letters.stream is 'Whose record it was.';
comment on column hl.dead_letters.stage is 'Who rejected it first, which says what the bytes are: bridge (a device''s payload) or sink (a Kafka record).';
comment on column hl.dead_letters.reason is 'Constant code of the last failure, such as not_json or sqlstate_22003.';
comment on column hl.dead_letters.detail is 'The last failure in words.';
comment on column hl.dead_letters.fingerprint is 'The same for failures that differ only in values.';
comment on column hl.dead_letters.attempts is 'How often it was tried, replays included.';
comment on column hl.dead_letters.first_failed_at is 'When it was rejected first.';
comment on column hl.dead_letters.last_failed_at is 'When it was rejected last.';
comment on column hl.dead_letters.version is 'Version of hl that rejected it last.';
comment on column hl.dead_letters.declaration is 'Digest of the stream''s declaration that rejected it last.';
comment on column hl.dead_letters.sqlstate is 'The database''s code, where it was the database that rejected it.';
comment on column hl.dead_letters.column_name is 'Column or constraint that the database named.';
comment on column hl.dead_letters.device_id is 'Its device, as far as it could be told.';
comment on column hl.dead_letters.mqtt_topic is 'MQTT topic of what the bridge rejected.';
comment on column hl.dead_letters.qos is 'Its QoS.';
comment on column hl.dead_letters.retained is 'Whether the broker had retained it.';
comment on column hl.dead_letters.received_at is 'When the bridge received it.';
comment on column hl.dead_letters.bridge is 'Which bridge.';
comment on column hl.dead_letters.kafka_topic is 'Kafka topic of what the sink rejected.';
comment on column hl.dead_letters.kafka_partition is 'Its Kafka partition.';
comment on column hl.dead_letters.kafka_offset is 'Its offset.';
comment on column hl.dead_letters.kafka_time is 'Its Kafka timestamp.';
comment on column hl.dead_letters.truncated_from_bytes is 'How long the value was, if it was cut; such an entry cannot be replayed.';
comment on column hl.dead_letters.sha256 is 'Hash of the whole value, if it was cut.';
comment on column hl.dead_letters.replay_of is 'The entry that it was a replay of, where the index has that no longer.';
comment on column hl.dead_letters.n_bytes is 'Length of the value that Kafka holds.';
comment on column hl.dead_letters.preview is 'Its beginning as text, for a person; the bytes are in Kafka.';
comment on column hl.dead_letters.state is 'new, replayed, failed_again or discarded.';
comment on column hl.dead_letters.state_at is 'When the state changed.';
comment on column hl.dead_letters.state_by is 'Who changed it.';
comment on column hl.dead_letters.state_reason is 'Why it was discarded.';
comment on column hl.dead_letters.replay_id is 'The reprocessing that took it last.';
comment on column hl.dead_letters.failed_replay is 'The replayed record that failed last, so that a dead letter sent twice counts once.';
comment on column hl.dead_letters.failed_letter_offset is 'Offset of the dead letter that said so, so that reading the topic again changes nothing.';
