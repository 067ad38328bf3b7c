"""Harm to PostgreSQL: what makes it refuse to write without anyone's data being at fault."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.libpq import libpq_environment
from hl_platform.stack.layout import Layout
from hl_platform.stack.net import free_port
from hl_platform.stack.postgres import EmbeddedPostgres, find_psql
from hl_platform.stack.server import reachable
from hl_platform.stack.users import give_to


def execute(postgres: EmbeddedPostgres, *statements: str, database: str = "postgres") -> None:
    """Runs statements as the superuser, whatever the server allows to others."""
    with psycopg.connect(postgres.url_of("postgres", database), autocommit=True) as conn:
        conn.execute("set default_transaction_read_only = off")
        for statement in statements:
            conn.execute(statement)


@contextmanager
def read_only(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Every transaction is refused writes, with the SQLSTATE of a standby (25006)."""
    execute(postgres, "alter system set default_transaction_read_only = on", "select pg_reload_conf()")
    try:
        yield
    finally:
        execute(postgres, "alter system reset default_transaction_read_only", "select pg_reload_conf()")


@contextmanager
def no_connections(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Cuts the connections of hl, and every further one is refused as one too many (53300)."""
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hl'"
    execute(postgres, "alter role hl connection limit 0", cut)
    try:
        yield
    finally:
        execute(postgres, "alter role hl connection limit -1")


@contextmanager
def full_disk(postgres: EmbeddedPostgres, layout: Layout, table: str) -> Iterator[None]:
    """The table's old readings are on a file system that is full within a megabyte (53100).

    Real where we may mount one; elsewhere the server is made to say the same by a trigger.
    """
    directory = layout.data_dir / "small"
    directory.mkdir()
    mount, umount = shutil.which("mount") or "mount", shutil.which("umount") or "umount"
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if os.getuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0:
        try:
            with _small_tablespace(postgres, layout, directory, table):
                yield
        finally:
            subprocess.run([umount, "--lazy", str(directory)], check=True)
    else:
        with _full_by_trigger(postgres, table):
            yield


@contextmanager
def _small_tablespace(
    postgres: EmbeddedPostgres, layout: Layout, directory: Path, table: str
) -> Iterator[None]:
    # A file system's top belongs to who mounted it.
    space = directory / "space"
    space.mkdir()
    give_to(directory, layout.user)
    give_to(space, layout.user)
    execute(postgres, sql.SQL("create tablespace small location {}").format(str(space)).as_string())
    execute(postgres, f"alter table {table}_older set tablespace small", database="hl")
    try:
        yield
    finally:
        execute(postgres, f"alter table {table}_older set tablespace pg_default", database="hl")
        execute(postgres, "drop tablespace small")


@contextmanager
def _full_by_trigger(postgres: EmbeddedPostgres, table: str) -> Iterator[None]:
    body = "begin raise exception 'could not extend file' using errcode = '53100'; end"
    execute(
        postgres,
        f"create function disk_full() returns trigger language plpgsql as $$ {body} $$",
        f"create trigger disk_full before insert on {table} for each row execute function disk_full()",
        database="hl",
    )
    try:
        yield
    finally:
        execute(postgres, "drop function disk_full cascade", database="hl")


class Standby(EmbeddedPostgres):
    """A streaming standby of another server, asynchronous as PostgreSQL's default is."""

    def follow(self, primary: EmbeddedPostgres, primary_layout: Layout) -> None:
        """Copies the primary. Call before `start`."""
        shutil.rmtree(self._layout.secrets, ignore_errors=True)
        shutil.copytree(primary_layout.secrets, self._layout.secrets)
        self._layout.server_dir("postgres")
        program = Path(find_psql(self._layout)).with_name("pg_basebackup")
        command = [str(program), "-D", str(self.data), "--write-recovery-conf", "--checkpoint=fast"]
        env = {**os.environ, **libpq_environment(primary.admin_url)}
        subprocess.run(command, check=True, env=env, capture_output=True)
        for path in (self.data, *self.data.rglob("*")):
            give_to(path, self._layout.user)

    def is_ready(self) -> bool:
        """Whether it answers queries. Its roles are the primary's."""
        return reachable(lambda: connect(self.admin_url, application_name="hl-probe").close())

    def promote(self) -> None:
        """Makes it the primary."""
        execute(self, "select pg_promote()")


def new_standby(layout: Layout, primary: EmbeddedPostgres, primary_layout: Layout) -> Standby:
    """A copy of a running server, on a free port, not started yet."""
    standby = Standby(layout, free_port())
    standby.follow(primary, primary_layout)
    return standby
