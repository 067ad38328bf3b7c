"""What the stack needs from the system, and how it gets there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hl_platform.core.errors import ConfigError
from hl_platform.stack.java import find_java, find_maven
from hl_platform.stack.kafka import has_jars
from hl_platform.stack.layout import Layout
from hl_platform.stack.mosquitto import find_mosquitto

APT_TIMEOUT_S = 900


def ensure_java(layout: Layout) -> None:
    """Java, and Maven while Kafka is still to be fetched.

    Raises:
        ConfigError: one is missing or too old; says how to get it.
    """
    find_java()
    if not has_jars(layout):
        find_maven()


def ensure_mosquitto(report: Callable[[str], None]) -> None:
    """Mosquitto, installed by apt-get when it is missing and we are root.

    Raises:
        ConfigError: it is missing and cannot be installed; says how to get it.
    """
    try:
        find_mosquitto()
    except ConfigError:
        if not can_install():
            raise
        report("installing Mosquitto with apt-get")
        apt_install("mosquitto")
        # The package starts a broker of its own, which nobody asked for and which would hold the port.
        _stop_service("mosquitto")
        find_mosquitto()


def can_install() -> bool:
    """Whether packages can be installed without asking anyone."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(package: str) -> None:
    """Installs a Debian package.

    Raises:
        ConfigError: apt-get failed; shows its last words.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", package],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=APT_TIMEOUT_S
        )
        # An update that fails for one source may still have brought what is needed.
        if done.returncode != 0 and "install" in command:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
            raise ConfigError(f"`{' '.join(command)}` failed. Run it by hand. It said:\n{last}")


def _stop_service(name: str) -> None:
    if Path("/run/systemd/system").is_dir():
        command = ["systemctl", "disable", "--now", f"{name}.service"]
    elif Path(f"/etc/init.d/{name}").exists():
        command = [f"/etc/init.d/{name}", "stop"]
    else:
        return
    # Best effort: if it still runs, the check of the ports says so.
    subprocess.run(command, capture_output=True, check=False, timeout=60)


def ensure_chromium() -> None:
    """Chromium for the tests of the page, installed by apt-get when it is missing and we are root.

    Raises:
        ConfigError: it is missing and cannot be installed; says how to get it.
    """
    if shutil.which("chromium") is None:
        if not can_install():
            raise ConfigError(
                "Chromium, which the tests of the page need, is missing. Run `apt-get install chromium`."
            )
        sys.stderr.write("installing Chromium with apt-get …\n")
        apt_install("chromium")


def main(names: Sequence[str]) -> int:
    """Makes sure of the programs named; `python -m hl_platform.stack.install mosquitto chromium`."""
    try:
        for name in names:
            {
                "mosquitto": lambda: ensure_mosquitto(lambda text: print(f"{text} …", file=sys.stderr)),  # noqa: T201
                "chromium": ensure_chromium,
            }[name]()
    except ConfigError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
