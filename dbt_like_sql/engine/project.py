"""All models: those in the package, those of the household, and those that a stream gets without a file."""

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec

from dbt_like_sql.engine.comments import FIELD_MACROS, WHAT, comments_of
from dbt_like_sql.engine.model import Model, parse_model
from dbt_like_sql.engine.render import near
from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Stream

# Where the text of a built-in model names a field of its stream: in a macro, or in a column of its pieces.
FIELD = re.compile(rf"\b(?:{FIELD_MACROS})\('([a-z0-9_]+)'|\bheld_([a-z0-9_]+)")


class Project:
    """Models in the order of their dependencies.

    Args:
        models: in any order.
        streams: what source() may name.

    Raises:
        ConfigError: a name is missing, or models depend on each other in a circle.
    """

    def __init__(self, models: Iterable[Model], streams: Mapping[str, Stream]) -> None:
        self.streams = streams
        self.models: dict[str, Model] = _sorted({model.name: model for model in models})
        self.models = {name: self._commented(model) for name, model in self.models.items()}
        for model in self.models.values():
            for name in model.sources:
                if name not in streams:
                    line = model.line_of(f"source('{name}'")
                    raise ConfigError(
                        f"{model.name}.sql:{line}: source('{name}'): no such stream. {near(name, streams)}"
                    )

    def aggregates(self) -> list[Model]:
        """The continuous aggregates, upstream first."""
        return [model for model in self.models.values() if model.is_aggregate]

    def below(self, model: Model) -> list[str]:
        """The names of a model and of all aggregates that it is computed from, the model first."""
        names = [model.name]
        for name in names:
            names += [ref for ref in self.models[name].refs if ref not in names]
        return [name for name in names if self.models[name].is_aggregate]

    def above(self, name: str) -> list[Model]:
        """The continuous aggregates that are computed from one directly."""
        return [model for model in self.aggregates() if name in model.refs]

    def stream_of(self, model: Model) -> Stream | None:
        """The stream whose readings a model reads directly."""
        return self.streams[model.sources[0]] if model.sources else None

    def base_of(self, model: Model) -> Stream | None:
        """The stream whose readings a model is made from in the end; None if it is made from anything else."""
        while not model.sources:
            if not model.refs:
                return None
            model = self.models[model.refs[0]]
        return self.stream_of(model)

    def _commented(self, model: Model) -> Model:
        if model.bucket is None:
            return model
        stream = self.base_of(model)
        fields = {field.name: field for field in stream.fields} if stream else {}
        columns = comments_of(model.select, fields, WHAT[model.bucket], model.columns)
        return msgspec.structs.replace(model, columns=columns)

    def all_above(self, names: Iterable[str]) -> list[Model]:
        """The continuous aggregates that are computed from any of these, directly or not, upstream first."""
        found = set(names)
        above = []
        for model in self.aggregates():
            if found & set(model.refs):
                found.add(model.name)
                above.append(model)
        return above

    def over_readings(self, stream: Stream) -> list[str]:
        """The names of the continuous aggregates that read a stream directly: those that its changes mark."""
        return [model.name for model in self.aggregates() if stream.name in model.sources]


def load_project(streams: Mapping[str, Stream], models_dir: str | None = None) -> Project:
    """The models of the package and of the household; a file of the household replaces one of the same name.

    Args:
        streams: declared ones. A stream without a model `<stream>_hourly` gets models from its fields' kinds.
        models_dir: directory with further `*.sql` files.

    Raises:
        ConfigError: a file is wrong, or the directory cannot be read.
    """
    from dbt_like_sql.engine.scaffold import scaffold_models  # noqa: PLC0415 - it parses what it writes, as we do

    texts: dict[str, str] = {}
    for folder in sorted(
        (resources.files("dbt_like_sql") / "models").iterdir(), key=lambda found: found.name
    ):
        if folder.is_dir() and folder.name in streams:
            built_in = _texts_in(folder)
            # Those of a built-in stream that the household replaced by its own declaration may not fit it.
            if _fits(streams[folder.name], built_in.values()):
                texts |= built_in
    for stream in streams.values():
        for name, text in scaffold_models(stream).items():
            texts.setdefault(name, text)
    if models_dir is not None:
        try:
            texts |= _texts_in(Path(models_dir))
        except (OSError, UnicodeDecodeError) as exc:
            msg = f"HL_MODELS_DIR={models_dir!r} cannot be read: {exc}"
            raise ConfigError(msg) from exc
    return Project((parse_model(text, name) for name, text in texts.items()), streams)


def _fits(stream: Stream, texts: Iterable[str]) -> bool:
    fields = {field.name for field in stream.fields}
    return all(name in fields for text in texts for names in FIELD.findall(text) for name in names if name)


def _texts_in(folder: Traversable) -> dict[str, str]:
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def _sorted(models: Mapping[str, Model]) -> dict[str, Model]:
    done: dict[str, Model] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in path:
            raise ConfigError(f"{name}.sql: ref() leads back to itself: {' -> '.join((*path, name))}.")
        if name not in models:
            line = models[path[-1]].line_of(f"ref('{name}'")
            raise ConfigError(
                f"{path[-1]}.sql:{line}: ref('{name}'): there is no such model. {near(name, models)}"
            )
        for ref in models[name].refs:
            visit(ref, (*path, name))
        done[name] = models[name]

    for name in sorted(models):
        visit(name, ())
    return done
