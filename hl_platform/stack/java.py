"""The Java that runs Kafka, and the Maven that fetches it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from hl_platform.core.errors import ConfigError

MIN_JAVA = 17
OR_OWN = "or set HL_KAFKA__BOOTSTRAP_SERVERS to a Kafka of your own"


def find_java() -> str:
    """The program java, 17 or newer.

    Raises:
        ConfigError: it is missing or too old; says how to get it.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        where = f" (JAVA_HOME is {home})" if home else ""
        raise ConfigError(
            f"Java is missing{where}. Run `apt-get install default-jre-headless` (Java {MIN_JAVA} or newer), {OR_OWN}."
        )
    version = _major_version(java)
    if version < MIN_JAVA:
        raise ConfigError(
            f"{java} is Java {version}, and Kafka needs {MIN_JAVA} or newer. "
            f"Run `apt-get install openjdk-{MIN_JAVA}-jre-headless` and point JAVA_HOME at it, {OR_OWN}."
        )
    return java


def find_maven() -> str:
    """The program mvn.

    Raises:
        ConfigError: it is missing; says how to get it.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise ConfigError(f"Maven, which fetches Kafka, is missing. Run `apt-get install maven`, {OR_OWN}.")
    return maven


def _major_version(java: str) -> int:
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30)
    # `openjdk version "17.0.15"`; up to Java 8 it was "1.8.0".
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found.group(1)) if found else 0
