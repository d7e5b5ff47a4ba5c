"""Where surfaces and offsets may start and end, and the words that `multi_bio` tags."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

Span = tuple[int, int]

# The characters at which str.splitlines breaks a line.
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_TO_SPACE = str.maketrans(dict.fromkeys(LINE_BREAKS, " "))


def one_line(text: str) -> str:
    """The text with a space in place of each line break character, so that offsets stay valid."""
    return text.translate(_TO_SPACE)


def trimmed(text: str, start: int, end: int) -> Span | None:
    """A span without white space at its ends; None if nothing is left."""
    piece = text[start:end]
    kept = piece.strip()
    if not kept:
        return None
    start += len(piece) - len(piece.lstrip())
    return start, start + len(kept)


def shared_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """How many characters or tokens two sequences of one type begin with alike."""
    least, most = 0, min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    while least < most:  # by halves: they are compared faster together than one by one
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def is_word_character(character: str) -> bool:
    """Whether it is a letter, a digit, an underscore, or a mark on the character before it."""
    return (
        character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")
    )


@lru_cache(maxsize=256)
def units(text: str, boundaries: str = "word") -> Sequence[Span]:
    """The smallest pieces that a surface can be made of. In order, they cover the whole text.

    Parameters
    ----------
    boundaries: with `word`, a piece is a run of word characters, or any other single character;
        with `character`, it is a single code point.
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


def cut_units(text: str, cuts: Container[int]) -> Iterator[Span]:
    """The units of a text between words, cut further at some offsets."""
    for start, end in units(text):
        yield from pairwise([start, *(at for at in range(start + 1, end) if at in cuts), end])


def tokens_cut_at(text: str, spans: Iterable[Span]) -> list[Span]:
    """The `fine` tokens of a text, cut further so that each of the spans begins and ends one."""
    cuts = {offset for span in spans for offset in span}
    return [(s, e) for s, e in cut_units(text, cuts) if not text[s:e].isspace()]


@lru_cache(maxsize=64)
def boundaries_of(text: str, boundaries: str = "word") -> Container[int]:
    """The offsets at which a surface may start or end; see `units`."""
    if boundaries == "character":
        return range(len(text) + 1)
    return frozenset([0, *(end for _, end in units(text))])


def on_boundaries(start: int, end: int, text: str, boundaries: str = "word") -> bool:
    """Whether a surface may start and end where this span does; see `units`."""
    if boundaries == "character":
        return True
    return not any(
        0 < i < len(text) and is_word_character(text[i - 1]) and is_word_character(text[i])
        for i in (start, end)
    )


@lru_cache(maxsize=64)
def tokens(text: str, words: str = "space") -> Sequence[Span]:
    """The words that multi_bio gives a tag each.

    Parameters
    ----------
    words: with `space`, words are what white space separates; with `fine`, they are runs of word
        characters and all other single characters but white space, so that `CD28` in
        `CD28-mediated` gets its own tag.
    """
    if words == "space":
        return [match.span() for match in re.finditer(r"\S+", text)]
    return [(s, e) for s, e in units(text) if not text[s:e].isspace()]


def covering(tokens: Sequence[Span], start: int, end: int) -> tuple[int, int] | None:
    """The first token of those that exactly make up the span, and the one after them; or None."""
    first = bisect_left(tokens, (start, start))
    last = bisect_left(tokens, (end, end))
    if first < last and tokens[first][0] == start and tokens[last - 1][1] == end:
        return first, last
    return None


def joined(words: Iterable[str]) -> tuple[str, list[Span]]:
    """A text of words, one space between them, and where each of them stands."""
    kept = list(words)
    starts = accumulate((len(word) + 1 for word in kept), initial=0)
    return " ".join(kept), [(at, at + len(word)) for at, word in zip(starts, kept, strict=False)]


def mention_tags(label: str, size: int) -> list[str]:
    """The tags of a mention of so many words: `B-LABEL`, then `I-LABEL`."""
    return [f"B-{label}"] + [f"I-{label}"] * (size - 1)
