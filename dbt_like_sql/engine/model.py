"""A model: one .sql file with a header and a SELECT."""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
import yaml

from hl_platform.core.errors import ConfigError
from hl_platform.core.levels import Grain

H = TypeVar("H")
Materialization = Literal["continuous_aggregate", "function", "view", "table"]
HEADER = re.compile(r"\A\s*/\*(.*?)\*/", re.DOTALL)
REFERENCE = re.compile(r"\bref\(\s*'([a-z0-9_]+)'\s*\)")
SOURCE = re.compile(r"\bsource\(\s*'([a-z0-9_]+)'\s*\)")
# The one written in C, where there is one: every process of Dagster's reads all headers.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")
RETENTION = re.compile(r"([1-9][0-9]*) (days|months|years)")


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a header says, and the SELECT behind it.

    Args:
        name: of the public view; also of the file.
        description: for people, in Dagster and in the database.
        materialization: `continuous_aggregate` is a table behind a view that is always right; `function` is
            computed for one device and one range when it is asked for; `view` and `table` are what they say.
        grain: the columns that tell its rows apart.
        time_column: the begin of a bucket.
        bucket: length of a continuous aggregate's or function's buckets.
        retention: how long its rows are kept, such as "2 years"; None: for ever.
        owner: who answers for it.
        columns: comment of each column, with its unit in brackets at the end. Those of a continuous aggregate or
            function that macros make need none; a project knows it.
        select: the SELECT as it stands in the file, with its macros.
        first_line: of the file, where the SELECT begins.
    """

    name: str
    description: str
    materialization: Materialization
    grain: tuple[str, ...]
    time_column: str | None = None
    bucket: Grain | None = None
    retention: str | None = None
    owner: str = "home"
    columns: Mapping[str, str] = {}
    select: str = ""
    first_line: int = 1

    @property
    def refs(self) -> tuple[str, ...]:
        """Names of the models that it reads, in order."""
        return tuple(dict.fromkeys(REFERENCE.findall(self.select)))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the streams whose readings it reads, in order."""
        return tuple(dict.fromkeys(SOURCE.findall(self.select)))

    @property
    def is_aggregate(self) -> bool:
        """Whether buckets of it can be dirty."""
        return self.materialization == "continuous_aggregate"

    def line_of(self, text: str) -> int:
        """The line of the file where a text of the SELECT stands first; where the SELECT begins without it."""
        return self.first_line + self.select[: max(self.select.find(text), 0)].count("\n")


def parse_model(text: str, file: str) -> Model:
    """The model that a file holds.

    Args:
        text: its content.
        file: its name without folders, for messages.

    Raises:
        ConfigError: names the file, the key and what is allowed.
    """
    model: Model = msgspec.structs.replace(read_header(text, file, Model), **select_of(text))
    _check(model, file)
    return model


def read_header(text: str, file: str, kind: type[H]) -> H:
    """What the YAML in the comment at the top of a .sql file says.

    Raises:
        ConfigError: names the file, the line or key, and what is allowed.
    """
    match = HEADER.match(text)
    if match is None:
        raise ConfigError(f"{file}:1: begins with no header. Write /* name: …, description: … */ first.")
    try:
        header: Any = yaml.load(match[1], Loader=LOADER)  # noqa: S506 - a safe one
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = 1 + text[: match.start(1)].count("\n") + (mark.line if mark else 0)
        problem = getattr(exc, "problem", None) or exc
        raise ConfigError(
            f"{file}:{line}: the header is not YAML: {problem}. Put a text with a colon in quotes."
        ) from exc
    if not isinstance(header, dict):
        raise ConfigError(f"{file}:1: the header holds no keys. Write name, description, materialization, …")
    try:
        return msgspec.convert(header, kind)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{file}: header: {exc}") from exc


def select_of(text: str) -> dict[str, Any]:
    """The SELECT behind a header, and the line that it begins in."""
    match = HEADER.match(text)
    end = match.end() if match else 0
    behind = text[end:]
    begin = end + len(behind) - len(behind.lstrip())
    return {"select": behind.strip(), "first_line": 1 + text[:begin].count("\n")}


def _check(model: Model, file: str) -> None:
    if not NAME.fullmatch(model.name) or file != f"{model.name}.sql":
        raise ConfigError(f"{file}: key `name` = {model.name!r}: must be the file's name, in lower case.")
    if not model.select:
        raise ConfigError(f"{file}: no SELECT follows the header.")
    if model.materialization in ("continuous_aggregate", "function"):
        if model.bucket is None or model.time_column != "bucket":
            raise ConfigError(f"{file}: a {model.materialization} needs `bucket` and `time_column: bucket`.")
        if model.grain != ("device_id", "bucket"):
            raise ConfigError(f"{file}: key `grain`: of a {model.materialization} it is [device_id, bucket].")
        if len(model.refs) + len(model.sources) != 1:
            raise ConfigError(f"{file}: a {model.materialization} reads exactly one ref() or source().")
    if model.retention is not None and not RETENTION.fullmatch(model.retention):
        raise ConfigError(
            f"{file}: key `retention` = {model.retention!r}: write it as `2 years` or `90 days`."
        )
    missing = [name for name in model.grain if name not in model.columns]
    if missing and model.bucket is None:
        raise ConfigError(f"{file}: key `columns`: say what {', '.join(missing)} is.")
