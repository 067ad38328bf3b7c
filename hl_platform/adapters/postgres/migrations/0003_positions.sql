-- What an offset is of: without these a topic that was made anew, or that lost its tail, looks like the old one
-- as soon as it has grown past the offset.

alter table hl.offsets add column kafka_topic_id uuid;
alter table hl.offsets add column leader_epoch integer;
comment on column hl.offsets.kafka_topic_id is 'Kafka''s id of the topic that next_offset is of; null where the cluster does not tell.';
comment on column hl.offsets.leader_epoch is 'Leader epoch of the record before next_offset; null where none was read yet.';
