"""Cutting a text into the segments that a model is asked about, one at a time.

Sentences are found by sentencex (MIT; Wikimedia's rules), which knows abbreviations and decimals
and gives offsets in code points. On the 213 abstracts of GENIA's test split, put together again
from their sentences, 99.4 % of the boundaries that it finds are right and it finds 97.5 % of them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator

from sentencex import get_sentence_boundaries

from constrained_ner.words import Span

SEGMENTS = ("none", "sentence", "window")
_BLANK_LINE = re.compile(r"(?:\r\n|\n|\r)[^\S\r\n]*(?:\r\n|\n|\r)\s*")


def segments(text: str, by: str, fits: Callable[[str], bool]) -> Iterator[Span]:
    """The segments of a text, in order. Only white space is left out.

    Parameters
    ----------
    by: `none`, the text as it is; `sentence`; or `window`, as much of the text as fits. A sentence
        that does not fit becomes windows, too.
    fits: whether a piece can be asked about: the model has room for it and its longest answer, and
        the format a grammar.
    """
    if by == "none":
        if text.strip():
            yield 0, len(text)
        return
    for span in sentences(text) if by == "sentence" else [(0, len(text))]:
        yield from windows(text, span, fits)


def sentences(text: str) -> Iterator[Span]:
    """The sentences of a text, without white space around them. A blank line ends a sentence."""
    paragraph = 0
    for end, following in [
        *(match.span() for match in _BLANK_LINE.finditer(text)),
        (len(text), len(text)),
    ]:
        for boundary in get_sentence_boundaries("en", text[paragraph:end]):
            span = trimmed(
                text, paragraph + boundary["start_index"], paragraph + boundary["end_index"]
            )
            if span:
                yield span
        paragraph = following


def windows(text: str, span: Span, fits: Callable[[str], bool]) -> Iterator[Span]:
    """A span in pieces that fit, cut at white space, each as long as possible.

    A single word that does not fit is a piece all the same.
    """
    at, end = span
    if trimmed(text, at, end) == span and fits(text[at:end]):
        yield span
        return
    words = [match.span() for match in re.compile(r"\S+").finditer(text, at, end)]

    def too_long(last: int) -> bool:
        return not fits(text[words[first][0] : words[last - 1][1]])

    first = 0
    while first < len(words):
        most = first + 1
        while most < len(words) and not too_long(most):
            most = min(len(words), 2 * most - first)
        fitting = bisect_left(range(first + 1, most + 1), True, key=too_long)
        last = first + max(1, fitting)
        yield words[first][0], words[last - 1][1]
        first = last


def trimmed(text: str, start: int, end: int) -> Span | None:
    """A span without white space at its ends; None if nothing is left."""
    piece = text[start:end]
    kept = piece.strip()
    if not kept:
        return None
    start += len(piece) - len(piece.lstrip())
    return start, start + len(kept)
