"""The files beside the models: those of the package, and those of the household, which replace them by name."""

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from hl_platform.core.errors import ConfigError


def read_texts(folder: str, ending: str, models_dir: str | None = None) -> Mapping[str, str]:
    """The texts of a folder, by file name.

    Args:
        folder: `checks` or `tests`, of the package and of the household's models.
        ending: of the files' names, with the dot.
        models_dir: of the household; it need not have such a folder.

    Raises:
        ConfigError: a file cannot be read.
    """
    places: list[Traversable | Path] = [resources.files("dbt_like_sql") / folder]
    if models_dir is not None:
        places.append(Path(models_dir) / folder)
    texts: dict[str, str] = {}
    for place in places:
        try:
            files = sorted(place.iterdir(), key=lambda file: file.name) if place.is_dir() else []
            texts |= {
                file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(ending)
            }
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{place} cannot be read: {exc}") from exc
    return texts
