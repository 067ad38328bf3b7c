import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_built_wheel_carries_the_page_and_all_that_is_not_python(tmp_path: Path):
    assert (ROOT / "hl_live/web/dist/index.html").exists(), "The page is not built. Run `make page`."
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, ROOT], check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "hl_live/web/dist/index.html",
        "hl_platform/streams/energy.toml",
        "hl_platform/adapters/postgres/migrations/0001_service_state.sql",
        "hl_platform/stack/kafka_pom.xml",
    } <= names
    assert not [name for name in names if "node_modules" in name or name.startswith("hl_live/web/src")]
