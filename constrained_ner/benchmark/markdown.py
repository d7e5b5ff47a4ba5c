"""The report as Markdown: its words and tables, without its plots."""

from __future__ import annotations

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
from constrained_ner.markdown import escape, table


def to_markdown(title: str, sections: Iterable[Section]) -> str:
    lines = [f"# {escape(title)}", ""]
    for section in sections:
        lines += [f"## {escape(section.title)}", ""]
        for block in section.blocks:
            lines += _lines(block)
    return "\n".join(lines).rstrip() + "\n"


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


def _table(block: Table) -> Iterator[str]:
    yield f"**{escape(block.caption)}**"
    yield ""
    if not block.rows:
        yield "Nothing."
        return
    heads = [": ".join(filter(None, (c.group, c.name))) for c in block.columns]
    yield table(heads, [[*map(_entry, row)] for row in block.rows], block.keys)


def _entry(entry: Entry) -> str:
    lead = f"{entry.lead}:" if entry.lead else ""
    return " ".join(filter(None, (lead, entry.text, entry.note)))
