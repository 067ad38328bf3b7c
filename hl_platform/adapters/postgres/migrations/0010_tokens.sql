-- Who may read what through the live service.

create table hl.tokens (
    token_id     text primary key check (token_id ~ '^[0-9a-f]{8}$'),
    name         text not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    digest       bytea not null check (length(digest) = 32),
    scopes       text[] not null check (cardinality(scopes) between 1 and 100),
    device_ids   text[] check (cardinality(device_ids) between 1 and 200),
    created_at   timestamptz not null default now(),
    last_used_at timestamptz,
    expires_at   timestamptz,
    revoked_at   timestamptz
);
create unique index tokens_name on hl.tokens (name) where revoked_at is null;
comment on table hl.tokens is
    'Bearer tokens of the live service. The owner''s alone: the role that may only read does not see it.';
comment on column hl.tokens.token_id is 'The part of the token that is no secret; by it the token is found.';
comment on column hl.tokens.name is 'What people call it; of tokens that are not revoked, one.';
comment on column hl.tokens.digest is 'SHA-256 of the token, which is 256 random bits: nothing leads back to it.';
comment on column hl.tokens.scopes is 'Such as read:energy, read:* or read:pipeline.';
comment on column hl.tokens.device_ids is 'The only devices that it shows; null: all.';
comment on column hl.tokens.last_used_at is 'To about half a minute.';
comment on column hl.tokens.expires_at is 'Exclusive; null: never.';
