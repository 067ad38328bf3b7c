"""How the commands beside a running stack find it."""

import os
from collections.abc import Mapping

import msgspec

from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import PREFIX, load_settings
from hl_platform.stack.files import write_private
from hl_platform.stack.layout import Layout, plan_directories


def write_connection(layout: Layout, environment: Mapping[str, str]) -> None:
    """Leaves the addresses and passwords for other commands of the same user."""
    own = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    write_private(layout.run / "connection.json", msgspec.json.encode(own).decode())


def forget_connection(layout: Layout) -> None:
    """Nothing can be reached any more."""
    (layout.run / "connection.json").unlink(missing_ok=True)


def read_connection(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the addresses of the running stack where it does not name others.

    Raises:
        ConfigError: a setting is wrong.
    """
    data_dir, _ = plan_directories(load_settings(environment))
    try:
        known = msgspec.json.decode((data_dir / "run" / "connection.json").read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        known = {}
    except PermissionError as exc:
        raise ConfigError(
            f"{exc.filename} belongs to another user. Run the command as who ran `hl up`."
        ) from exc
    return {**known, **environment}


def command_environment() -> dict[str, str]:
    """The environment of a command beside a running stack: its addresses, unless the environment has others."""
    return read_connection(dict(os.environ))
