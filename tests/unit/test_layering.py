"""Imports point one way: core <- adapters <- pipeline <- defs <- definitions, and core <- adapters <- hl_live.

The engine of the SQL models stands on core alone; whoever uses it hands it a database. hl_live asks it which columns
the models of a stream have.

The arrows are those of docs/architecture.md; a new package must be given its place here.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hl_platform", "hl_live", "dbt_like_sql")

# The models know nothing of a driver: whoever uses the engine hands it a connection.
ENGINE = "dbt_like_sql.engine"

# What each part may import of ours, besides itself. The longest matching prefix decides.
ALLOWED: dict[str, tuple[str, ...]] = {
    "hl_platform": (),
    "hl_platform.core": (),
    "hl_platform.streams": ("core",),
    "hl_platform.adapters": ("core",),
    "hl_platform.pipeline": ("core", "streams", "adapters"),
    "hl_platform.defs": ("core", "streams", "adapters", "pipeline", ENGINE),
    "hl_platform.definitions": ("core", "streams", "adapters", "pipeline", "defs", ENGINE),
    "hl_platform.stack": ("core", "streams", "adapters", "pipeline", ENGINE),
    "hl_platform.code_server": (),
    "hl_platform.dagster_daemon": ("core", "adapters"),
    "hl_platform.simulator": ("core", "streams", "adapters"),
    # A command finds the running stack's addresses as every other command does.
    "hl_platform.simulator.command": ("core", "streams", "adapters", "stack"),
    "hl_platform.cli": ("core", "streams", "adapters", "pipeline", "stack", "simulator"),
    "hl_live": ("core", "streams", "adapters", ENGINE),
    "dbt_like_sql": ("core",),
}
# Top-level packages of others, and who alone may import them.
ONLY_IN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("dagster", "dagster_postgres", "dagster_webserver", "dagster_shared"),
        (
            "hl_platform.defs",
            "hl_platform.definitions",
            "hl_platform.code_server",
            "hl_platform.dagster_daemon",
        ),
    ),
    **dict.fromkeys(
        (
            "confluent_kafka",
            "duckdb",
            "jwt",
            "opentelemetry",
            "paho",
            "psycopg",
            "psycopg_pool",
            "psycopg2",
            "sqlalchemy",
        ),
        ("hl_platform.adapters",),
    ),
    **dict.fromkeys(("litestar", "prometheus_client", "uvicorn", "uvloop"), ("hl_live",)),
    # Its client is an outside system's, of who looks at the feed from the terminal.
    "websockets": ("hl_live", "hl_platform.adapters"),
}
# Core is pure: no clock, no network, no files, no processes. Beside this list it may use the standard library.
NOT_IN_CORE = (
    "asyncio",
    "io",
    "os",
    "pathlib",
    "select",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "time",
)
OTHERS_IN_CORE = ("msgspec",)


def modules() -> list[tuple[str, str]]:
    """(dotted name, source) of every module of ours."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "node_modules" not in parts:
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found.append((name, path.read_text(encoding="utf-8")))
    return found


def imports_of(name: str, source: str) -> Iterator[str]:
    """Every dotted name that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield ".".join(name.split(".")[: -node.level]) + "." + (node.module or "")
        elif isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            # `from hl_platform import stack` imports hl_platform.stack.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def place_of(name: str) -> str:
    return max((place for place in ALLOWED if within(name, place)), key=len, default="")


def wrong_imports(name: str, source: str) -> list[str]:
    """One sentence for each import that the layers do not allow."""
    return [
        f"{name} may not import {target}" for target in imports_of(name, source) if not allowed(name, target)
    ]


def allowed(name: str, target: str) -> bool:
    place, top = place_of(name), target.split(".", maxsplit=1)[0]
    if target == "hl_platform.__version__":
        return True
    if top in PACKAGES:
        own = [place, *(layer if layer == ENGINE else f"hl_platform.{layer}" for layer in ALLOWED[place])]
        # A part's exception, such as a command module, belongs to the part.
        if place.count(".") > 1:
            own.append(place.rpartition(".")[0])
        return any(within(target, prefix) for prefix in own if prefix != "hl_platform")
    if top in ONLY_IN:
        return any(within(name, home) for home in ONLY_IN[top])
    return place != "hl_platform.core" or top not in NOT_IN_CORE


@pytest.mark.parametrize(("name", "source"), modules(), ids=lambda value: value if len(value) < 60 else "")
def test_a_module_imports_only_what_its_layer_allows(name: str, source: str) -> None:
    assert wrong_imports(name, source) == []


def test_every_part_has_a_place() -> None:
    parts = {".".join(name.split(".")[:2]) for name, _ in modules() if name.startswith("hl_platform.")}
    assert parts - ALLOWED.keys() == set()


def test_core_uses_nothing_but_the_standard_library_and_msgspec() -> None:
    used = {
        target.split(".")[0]
        for name, source in modules()
        if within(name, "hl_platform.core")
        for target in imports_of(name, source)
    }
    assert used - sys.stdlib_module_names - set(PACKAGES) - set(OTHERS_IN_CORE) == set()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("hl_platform.core.settings", "import hl_platform.adapters.mqtt"),
        ("hl_platform.core.settings", "from hl_platform.streams import load_streams"),
        ("hl_platform.core.settings", "import time"),
        ("hl_platform.core.settings", "def late():\n    import socket"),
        ("hl_platform.core.settings", "from ..adapters import kafka"),
        ("hl_platform.adapters.kafka.config", "from hl_platform.pipeline.bridge import Bridge"),
        ("hl_platform.pipeline.bridge", "import dagster"),
        ("hl_platform.pipeline.bridge", "from confluent_kafka import Producer"),
        ("hl_platform.pipeline.bridge", "import hl_live.app"),
        ("hl_platform.pipeline.bridge", "from hl_platform import stack"),
        ("hl_platform.defs.sensors", "from psycopg import connect"),
        ("hl_platform.defs.sensors", "from hl_platform.stack.files import x"),
        ("hl_platform.simulator.home", "from hl_platform.stack.connection import command_environment"),
        ("hl_platform.stack.process", "from hl_live.app import create_app"),
        ("hl_live.app", "from hl_platform.pipeline.sink import StreamSink"),
        ("hl_live.app", "import paho.mqtt.client"),
        ("hl_platform.newcomer", "import hl_platform.core.errors"),
        ("hl_platform.pipeline.sink", "from dbt_like_sql.engine.refresh import Refresher"),
        ("dbt_like_sql.engine.refresh", "import psycopg"),
        ("dbt_like_sql.engine.refresh", "from hl_platform.adapters.postgres.database import SqlDatabase"),
    ],
)
def test_a_wrong_arrow_is_found(name: str, source: str) -> None:
    assert len(wrong_imports(name, source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("hl_platform.core.settings", "import msgspec, threading"),
        (
            "hl_platform.adapters.kafka.config",
            "import confluent_kafka\nfrom hl_platform.core.errors import X",
        ),
        ("hl_platform.pipeline.bridge", "from hl_platform.pipeline.sink import X"),
        ("hl_platform.defs.jobs", "import dagster as dg\nfrom hl_platform.pipeline import services"),
        ("hl_platform.simulator.command", "from hl_platform.simulator.home import X"),
        ("hl_platform.cli", "from hl_platform.simulator.command import simulate"),
        ("hl_live.app", "import litestar\nfrom hl_platform.adapters.postgres import connection"),
    ],
)
def test_a_right_arrow_is_let_through(name: str, source: str) -> None:
    assert wrong_imports(name, source) == []
