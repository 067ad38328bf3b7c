"""Builds the page when what is there is older than its sources."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "deploy" / "scripts" / "page.sh"
BUILT = ROOT / "hl_live" / "web" / "dist" / "index.html"
BUILD_LIMIT_S = 300


def build_page() -> None:
    """Leaves hl_live/web/dist as the sources say; the same script as `make page`, which excludes itself."""
    done = subprocess.run(
        [BUILD, "build"], capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False
    )
    # Without Node the script says how to get it and is content; these tests cannot be.
    if done.returncode != 0 or not BUILT.exists():
        pytest.fail(f"The page cannot be built:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", pytrace=False)
