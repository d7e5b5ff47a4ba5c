"""Words and tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def escape(text: str) -> str:
    """Text that means itself. Line breaks become spaces, for fields of tables have none."""
    plain = _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")
    # An underscore between letters has no meaning in Markdown.
    return re.sub(r"(?<=\w)\\_(?=\w)", "_", plain)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], keys: int = 1) -> str:
    """A table of plain text.

    Parameters
    ----------
    keys: the first columns, which name a row; what is in the others stands at the right.
    """
    rule = ["---" if i < keys else "---:" for i in range(len(heads))]
    fields = [[*map(escape, heads)], rule, *([*map(escape, row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in fields)
