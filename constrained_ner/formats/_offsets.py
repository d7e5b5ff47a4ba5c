"""How offsets that are being written are likely to go on: guesses for decoding in blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from constrained_ner.words import Span


@lru_cache(maxsize=256)
def _words(text: str) -> Sequence[Span]:
    """Runs of non-space without the punctuation around them."""
    found = []
    for match in re.finditer(r"\S+", text):
        bare = match[0].strip(".,;:!?()[]{}\"'")
        if bare:
            start = match.start() + match[0].index(bare)
            found.append((start, start + len(bare)))
    return found


def likely_span(text: str, start: str, end: str | None) -> tuple[str, str, Span] | None:
    """The rest of two offsets, if they are those of words.

    Parameters
    ----------
    start: the digits of the first one so far. `end`: of the second one; None before it.

    Returns
    -------
    What is missing of the first and of the second, and the span; None where the first may still
    become one of several.
    """
    words = _words(text)
    if end is None:
        known = [word for word in words if str(word[0]).startswith(start)]
        whole = [word for word in known if str(word[0]) == start]
        if len(known) != 1 and not whole:
            return None
        first, last = (whole or known)[0]
        return str(first)[len(start) :], str(last), (first, last)
    first = int(start)
    for _, last in words:
        if last > first and str(last).startswith(end):
            return "", str(last)[len(end) :], (first, last)
    return None
