"""Builds the page when what is there is older than its sources."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "hl_live" / "web"
SOURCES = (
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
)
BUILD_LIMIT_S = 300


def build_page() -> None:
    """Leaves hl_live/web/dist as the sources say."""
    # `make up` may be building in the same folder.
    with (WEB / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_current():
            return
        npm = shutil.which("npm")
        if npm is None:
            pytest.fail(
                "The page cannot be built without Node 20 or newer. Get it with: apt-get install nodejs npm"
            )
        if not _has_packages():
            _run(npm, "ci")
        _run(npm, "run", "build")


def _is_current() -> bool:
    built = WEB / "dist" / "index.html"
    if not built.exists():
        return False
    files = [file for name in SOURCES for file in [WEB / name, *(WEB / name).rglob("*")]]
    return built.stat().st_mtime >= max(file.stat().st_mtime for file in files if file.is_file())


def _has_packages() -> bool:
    installed = WEB / "node_modules" / ".package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= (WEB / "package-lock.json").stat().st_mtime


def _run(*command: str) -> None:
    done = subprocess.run(
        command, cwd=WEB, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
