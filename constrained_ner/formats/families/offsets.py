"""How offsets that are being written are likely to go on: drafts for speculative decoding."""

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


def propose_offsets(
    under_way: re.Pattern[str], between: str, written: str, text: str
) -> tuple[str, Span] | None:
    """The rest of two offsets, if they are those of words, and the span that they name.

    Parameters
    ----------
    under_way: finds the digits at the end of an answer: groups `start` and `end`, the latter None
        before there is a second offset. `between`: what stands between the two.
    written: the end of the answer so far.

    Returns
    -------
    None where no offset is under way, or the first one may still become one of several.
    """
    match = under_way.search(written)
    if match is None:
        return None
    words = _words(text)
    if match["end"] is None:
        known = [word for word in words if str(word[0]).startswith(match["start"])]
        whole = [word for word in known if str(word[0]) == match["start"]]
        if len(known) != 1 and not whole:
            return None
        first, last = (whole or known)[0]
        return f"{first}{between}{last}".removeprefix(match["start"]), (first, last)
    first = int(match["start"])
    for _, last in words:
        if last > first and str(last).startswith(match["end"]):
            return str(last).removeprefix(match["end"]), (first, last)
    return None
