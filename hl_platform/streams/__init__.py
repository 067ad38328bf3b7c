"""The built-in stream declarations, and the loader that adds the household's own."""

from importlib import resources
from pathlib import Path

from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Stream, check_streams, parse_stream


def load_streams(streams_dir: str | None = None) -> dict[str, Stream]:
    """The built-in streams and those of the household, by name.

    Args:
        streams_dir: directory with further `*.toml` declarations; a file there replaces the built-in one
            of the same file name.

    Raises:
        ConfigError: a file is wrong, or the directory cannot be read.
    """
    texts = {
        file.name: (f"(built-in) {file.name}", file.read_text(encoding="utf-8"))
        for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    }
    if streams_dir is not None:
        try:
            own = sorted(path for path in Path(streams_dir).iterdir() if path.suffix == ".toml")
            texts |= {path.name: (str(path), path.read_text(encoding="utf-8")) for path in own}
        except (OSError, UnicodeDecodeError) as exc:
            msg = f"HL_STREAMS_DIR={streams_dir!r} cannot be read: {exc}"
            raise ConfigError(msg) from exc
    return check_streams((where, parse_stream(text, where)) for where, text in texts.values())
