-- Dead letters that somebody asked the live service to replay: Dagster does it, and this is how both speak.

create table hl.replay_requests (
    request_id   bigint generated always as identity primary key,
    requested_at timestamptz not null default now(),
    requested_by text not null,
    dry_run      boolean not null,
    stream       text,
    fingerprint  text,
    device_id    text,
    until_id     bigint not null,
    n_selected   bigint not null,
    state        text not null default 'asked' check (state in ('asked', 'running', 'done', 'failed')),
    run_id       text,
    step         text,
    n_done       bigint,
    n_total      bigint,
    ended_at     timestamptz,
    judged       jsonb,
    replayed     jsonb,
    problem      text
);
create index replay_requests_open on hl.replay_requests (request_id) where state in ('asked', 'running');
comment on table hl.replay_requests is
    'Replays and dry runs that were asked for over the API: who asked, for what, and what became of it.';
comment on column hl.replay_requests.requested_by is 'The token''s name or the JWT''s subject, and the address.';
comment on column hl.replay_requests.dry_run is 'Only say what would succeed.';
comment on column hl.replay_requests.until_id is 'The newest dead letter that is meant; what comes in later is not.';
comment on column hl.replay_requests.n_selected is 'How many it was about when it was asked for.';
comment on column hl.replay_requests.run_id is 'Of the run in Dagster.';
comment on column hl.replay_requests.step is 'What the run does now: replayed, or awaited until the sink has passed it.';
comment on column hl.replay_requests.judged is 'Of a dry run: what would become of the entries, by kind and reason.';
comment on column hl.replay_requests.replayed is 'Of a replay: what became of the entries.';
comment on column hl.replay_requests.problem is 'Why it failed, for a person.';
