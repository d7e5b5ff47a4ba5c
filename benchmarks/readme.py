"""The tables of the README that are made from results: each stands between two comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def put(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table into its place in the README.

    Raises
    ------
    LookupError: the README has no such place.
    """
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    text = README.read_text(encoding="utf-8")
    place = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    changed, count = place.subn(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", text)
    if count != 1:
        raise LookupError(f"expected one place between {begin} and {end} in {README.name}")
    README.write_text(changed, encoding="utf-8")
