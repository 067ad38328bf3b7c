"""Tests of models as examples in YAML: given these rows, a model has those.

```yaml
model: energy_hourly
timezone: Europe/Berlin
tests:
  - name: a step across a border is shared out by time
    given:
      energy:
        - {device_id: m1, timestamp: "2026-06-01 10:45", total_energy_kwh: 1.0, power_kw: 2}
        - {device_id: m1, timestamp: "2026-06-01 11:15", total_energy_kwh: 2.0, power_kw: 2}
    expect:
      - {bucket: "2026-06-01 10:00", consumption_kwh: 0.5}
      - {bucket: "2026-06-01 11:00", consumption_kwh: 0.5}
```
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from dbt_like_sql.engine.render import near
from dbt_like_sql.engine.texts import read_texts
from hl_platform.core.errors import ConfigError

TOLERANCE = 1e-6
Row = dict[str, Any]


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One test.

    Args:
        name: what it promises.
        given: rows by stream, by model, or for `counter_events`. Times without an offset are the household's.
        expect: rows of the model; only the columns that they name are compared.
        complete: whether a further row of the model is a failure.
        timezone: the household's, where it is not the file's.
        tolerance: how far a number may be off, as a share of it or at all, whichever is more.
    """

    name: str
    given: dict[str, list[Row]]
    expect: list[Row]
    complete: bool = True
    timezone: str | None = None
    tolerance: float = TOLERANCE


class ExampleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of tests of one model."""

    model: str
    tests: list[Example]
    timezone: str = "UTC"
    file: str = ""


def load_examples(models_dir: str | None = None) -> list[ExampleFile]:
    """All tests of the package and of the household (`tests/*.yaml` beside its models).

    Raises:
        ConfigError: a file is wrong; the message names it.
    """
    return [parse_examples(text, name) for name, text in read_texts("tests", ".yaml", models_dir).items()]


def parse_examples(text: str, file: str) -> ExampleFile:
    """The tests that a file holds.

    Raises:
        ConfigError: names the file, the line or key, and what is allowed.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{line}: not YAML: {getattr(exc, 'problem', None) or exc}") from exc
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: holds no keys. Write model, timezone, tests.")
    try:
        return msgspec.convert({**raw, "file": file}, ExampleFile)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{file}: {exc}") from exc


def check_columns(where: str, rows: list[Row], there: list[str]) -> None:
    """Finds a column that does not exist, which the database would ignore.

    Raises:
        ConfigError: names it, and what may be meant.
    """
    for row in rows:
        for name in row:
            if name not in there:
                raise ConfigError(f"{where}: there is no column {name!r}. {near(name, there)}")


def differences(
    expected: list[Row], found: list[Row], keys: tuple[str, ...], example: Example
) -> list[tuple[str, str, str, str]]:
    """What is not as it should be: (row, column, expected, found), each as text.

    Args:
        expected: rows with the columns that are compared, of the database's types.
        found: rows with all columns.
        keys: columns that tell rows apart; those that `expected` names are used.
        example: for its tolerance, and whether further rows are a failure.
    """
    used = tuple(key for key in keys if all(key in row for row in expected))
    pending = list(found)
    wrong: list[tuple[str, str, str, str]] = []
    for row in expected:
        named = ", ".join(_text(row[key]) for key in used) or "a row"
        alike = [other for other in pending if all(_same(row[key], other[key], 0) for key in used)]
        if not alike:
            wrong.append((named, "", "a row", "no row"))
            continue
        # Without keys, the row that is closest is meant.
        best = min(alike, key=lambda other: len(_unlike(row, other, example.tolerance)))
        pending.remove(best)
        wrong += [
            (named, column, _text(row[column]), _text(best[column]))
            for column in _unlike(row, best, example.tolerance)
        ]
    if example.complete:
        shown = used or keys
        wrong += [
            (", ".join(_text(row[key]) for key in shown if key in row), "", "no row", "a row")
            for row in pending
        ]
    return wrong


def _unlike(row: Row, other: Row, tolerance: float) -> list[str]:
    return [column for column in row if not _same(row[column], other[column], tolerance)]


def _same(one: object, other: object, tolerance: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key], tolerance) for key in one)
    if _is_number(one) and _is_number(other):
        a, b = float(one), float(other)  # type: ignore[arg-type]
        return abs(a - b) <= tolerance * max(1.0, abs(a))
    return one == other


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    return value.isoformat(" ") if hasattr(value, "isoformat") else str(value)
