"""Writes tables of results into pages of docs, each between two comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from constrained_ner import markdown

PAGE = Path(__file__).parent.parent / "docs" / "measurements.md"


def put(
    name: str, heads: Sequence[str], rows: Iterable[Sequence[str]], page: Path | None = None
) -> None:
    """Replace the table between the comments `NAME: begin` and `NAME: end`.

    Parameters
    ----------
    page: by default that of measurements.

    Raises
    ------
    LookupError: the page has no such place.
    """
    table = markdown.table(heads, rows)
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    page = page or PAGE
    text = page.read_text(encoding="utf-8")
    place = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    changed, count = place.subn(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", text)
    if count != 1:
        raise LookupError(f"expected one place between {begin} and {end} in {page.name}")
    page.write_text(changed, encoding="utf-8")
