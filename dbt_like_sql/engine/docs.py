"""Pages about the models: what each column is and where it comes from, as Markdown or as HTML."""

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from dbt_like_sql.engine.lineage import column_lineage
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #8884}"
)
LINK = re.compile(r"\[(\w+)\]\(\w+\.md\)")


class Part(NamedTuple):
    """A table of a page."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def write_docs(project: Project, *, html: bool = False) -> dict[str, str]:
    """The pages of all models, by file name: one for each, and an index with the graph of all.

    Args:
        project: all models.
        html: HTML instead of Markdown.
    """
    ending, page = ("html", _html) if html else ("md", _markdown)
    pages = {
        f"{model.name}.{ending}": page(model.name, model.description, _parts(project, model), "")
        for model in project.models.values()
    }
    parts = [Part(("model", "what it is"), [(_link(m.name), m.description) for m in project.models.values()])]
    pages[f"index.{ending}"] = page("SQL models", "All models, upstream first.", parts, mermaid(project))
    return pages


def mermaid(project: Project) -> str:
    """Which model reads which, as a Mermaid graph."""
    lines = ["graph LR"]
    for model in project.models.values():
        lines += [f"    {ref} --> {model.name}" for ref in model.refs]
        lines += [
            f"    {project.streams[name].table}[({project.streams[name].table})] --> {model.name}"
            for name in model.sources
        ]
    return "\n".join(lines)


def _parts(project: Project, model: Model) -> list[Part]:
    origins = column_lineage(project, model)
    stream = project.stream_of(model)
    above = [other.name for other in project.models.values() if model.name in other.refs]
    facts = {
        "materialization": model.materialization,
        "a row for each": ", ".join(model.grain),
        "bucket": model.bucket or "",
        "kept": model.retention or "for ever" if model.is_aggregate else "",
        "owner": model.owner,
        "reads": ", ".join((*((stream.table,) if stream else ()), *map(_link, model.refs))),
        "read by": ", ".join(map(_link, above)),
    }
    columns = [
        (f"`{name}`", text, ", ".join(f"`{table}.{column}`" for table, column in origins.get(name, ())))
        for name, text in model.columns.items()
    ]
    return [
        Part(("", ""), [(name, text) for name, text in facts.items() if text]),
        Part(("column", "what it is", "comes from"), columns),
    ]


def _link(name: str) -> str:
    return f"[{name}]({name}.md)"


def _markdown(title: str, text: str, parts: list[Part], graph: str) -> str:
    lines = [f"# {title}", "", text]
    for part in parts:
        lines += ["", f"| {' | '.join(part.head)} |", "|" + "---|" * len(part.head)]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in part.rows]
    if graph:
        lines += ["", "```mermaid", graph, "```"]
    return "\n".join(lines) + "\n"


def _html(title: str, text: str, parts: list[Part], graph: str) -> str:
    def cell(value: str) -> str:
        return LINK.sub(r'<a href="\1.html">\1</a>', escape(value)).replace("`", "")

    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(text)}</p>"]
    for part in parts:
        rows = ["<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in part.rows]
        head = "".join(f"<th>{escape(name)}</th>" for name in part.head)
        body.append(
            "<table><thead><tr>" + head + "</tr></thead><tbody>" + "\n".join(rows) + "</tbody></table>"
        )
    if graph:
        body.append(f'<pre class="mermaid">{escape(graph)}</pre>')
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )
