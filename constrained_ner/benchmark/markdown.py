"""The report as Markdown: its words and tables, without its plots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from constrained_ner.benchmark.blocks import (
    Block,
    Entry,
    Fold,
    Items,
    Plot,
    Plots,
    Section,
    Table,
    Words,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def to_markdown(title: str, sections: Iterable[Section]) -> str:
    lines = [f"# {escape(title)}", ""]
    for section in sections:
        lines += [f"## {escape(section.title)}", ""]
        for block in section.blocks:
            lines += _lines(block)
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """Escape text for Markdown. Line breaks become spaces, for fields of tables have none."""
    plain = _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")
    # An underscore between letters has no meaning in Markdown.
    return re.sub(r"(?<=\w)\\_(?=\w)", "_", plain)


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Words(text):
            yield escape(text)
        case Items(items):
            for lead, text in items:
                yield f"- **{escape(lead)}** {escape(text)}"
        case Table():
            yield from _table(block)
        case Fold(title, blocks):
            yield f"### {escape(title)}"
            yield ""
            for inner in blocks:
                yield from _lines(inner)
            return
        case Plot() | Plots():
            return
    yield ""


def _table(table: Table) -> Iterator[str]:
    yield f"**{escape(table.caption)}**"
    yield ""
    if not table.rows:
        yield "Nothing."
        return
    heads = [": ".join(filter(None, (c.group, c.name))) for c in table.columns]
    yield _row(map(escape, heads))
    yield _row("---" if i < table.keys else "---:" for i in range(len(heads)))
    for row in table.rows:
        yield _row(_entry(entry) for entry in row)


def _entry(entry: Entry) -> str:
    lead = f"{entry.lead}:" if entry.lead else ""
    return escape(" ".join(filter(None, (lead, entry.text, entry.note))))


def _row(fields: Iterable[str]) -> str:
    return f"| {' | '.join(fields)} |"
