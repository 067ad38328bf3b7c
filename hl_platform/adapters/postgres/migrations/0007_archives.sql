-- The files that hold what retention took out of the tables of readings.

create table hl.archives (
    table_name    text not null,
    day           date not null,
    part          integer not null,
    path          text not null unique,
    n_rows        bigint not null,
    devices       text[] not null,
    first_at      timestamptz not null,
    last_at       timestamptz not null,
    sha256        text not null,
    rows_sha256   text not null,
    schema_digest text not null,
    version       text not null,
    written_at    timestamptz not null default clock_timestamp(),
    primary key (table_name, day, part)
);
comment on table hl.archives is
    'Archive files, registered in the transaction that takes their readings out of the table.';
comment on column hl.archives.day is 'UTC day of its readings.';
comment on column hl.archives.part is
    '0: what was dropped; later ones: what came late. Of two readings with the same key that of the later part counts.';
comment on column hl.archives.path is 'Relative to HL_ARCHIVE__DIR.';
comment on column hl.archives.sha256 is 'Of the file.';
comment on column hl.archives.rows_sha256 is 'Of its rows as PostgreSQL''s binary COPY writes them, by device and time.';
comment on column hl.archives.schema_digest is 'Changes with the table''s columns.';

create schema restored;
comment on schema restored is
    'Readings that `hl archive restore` brought back to be queried: tables of the same names, until `hl archive forget`.';
