"""docs/configuration.md says what the code says."""

import subprocess
import sys
from pathlib import Path

from hl_platform.core.settings import describe_settings

DOCS = Path(__file__).parents[2] / "docs"


def test_the_configuration_table_is_what_its_generator_writes() -> None:
    check = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], check=False)
    assert check.returncode == 0, "a page of docs/ is out of date: run `make docs`"


def test_every_setting_is_in_the_table() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert [doc.variable for doc in describe_settings() if f"| `{doc.variable}` |" not in text] == []
