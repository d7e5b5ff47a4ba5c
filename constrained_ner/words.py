"""Where surfaces and offsets may begin and end, and the words that `multi_bio` tags."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Container, Sequence
from functools import lru_cache

Span = tuple[int, int]

# The characters at which str.splitlines breaks a line.
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_TO_SPACE = str.maketrans(dict.fromkeys(LINE_BREAKS, " "))


def one_line(text: str) -> str:
    """`text` with each line break character written as one space: lengths and offsets hold."""
    return text.translate(_TO_SPACE)


def is_word_character(character: str) -> bool:
    """Letters, digits, underscore, and marks, which belong to the character before them."""
    return (
        character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")
    )


@lru_cache(maxsize=256)
def units(text: str, boundaries: str = "word") -> Sequence[Span]:
    """The smallest pieces that a surface is made of, in order, covering the whole text.

    `word`: maximal runs of word characters, and every other character by itself.
    `character`: every code point by itself.
    """
    if boundaries == "character":
        return [(i, i + 1) for i in range(len(text))]
    pieces: list[Span] = []
    start = 0
    for end in range(1, len(text) + 1):
        inside = (
            end < len(text) and is_word_character(text[end - 1]) and is_word_character(text[end])
        )
        if not inside:
            pieces.append((start, end))
            start = end
    return pieces


@lru_cache(maxsize=64)
def boundaries_of(text: str, boundaries: str = "word") -> Container[int]:
    """The offsets at which a surface may begin or end."""
    if boundaries == "character":
        return range(len(text) + 1)
    return frozenset([0, *(end for _, end in units(text))])


def on_boundaries(start: int, end: int, text: str, boundaries: str = "word") -> bool:
    """Whether neither end of the span lies inside a word."""
    if boundaries == "character":
        return True
    return not any(
        0 < i < len(text) and is_word_character(text[i - 1]) and is_word_character(text[i])
        for i in (start, end)
    )


def tokens(text: str, words: str = "space") -> Sequence[Span]:
    """The words that multi_bio tags, one tag each.

    `space`: maximal runs of non-space. `fine`: runs of word characters and every other
    non-space character by itself, so that `CD28` in `CD28-mediated` has a tag of its own.
    """
    if words == "space":
        return [match.span() for match in re.finditer(r"\S+", text)]
    return [(s, e) for s, e in units(text) if not text[s:e].isspace()]


def covering(tokens: Sequence[Span], start: int, end: int) -> tuple[int, int] | None:
    """Indices [first, last) of the tokens that make up exactly the span, or None."""
    first = bisect_left(tokens, (start, start))
    last = bisect_left(tokens, (end, end))
    if first < last and tokens[first][0] == start and tokens[last - 1][1] == end:
        return first, last
    return None
