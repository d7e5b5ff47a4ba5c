"""Where a surface may stand in a text, by trying every way: a check on the aligner, not a copy."""

from __future__ import annotations

from collections.abc import Iterator

from constrained_ner.words import on_boundaries

Span = tuple[int, int]
Fragments = tuple[Span, ...]


def occurrences(surface: str, text: str, start: int = 0) -> Iterator[Span]:
    """Each place of a string, overlapping ones included."""
    for at in range(start, len(text)):
        if surface and text.startswith(surface, at):
            yield at, at + len(surface)


def alignments(surface: str, text: str, start: int = 0) -> Iterator[Fragments]:
    """All ways to read a surface from pieces of whole words that follow each other."""
    parts = surface.split(" ")
    for last in range(1, len(parts) + 1):
        piece, rest = " ".join(parts[:last]), " ".join(parts[last:])
        for span in occurrences(piece, text):
            if span[0] < start or not on_boundaries(*span, text):
                continue
            if last == len(parts):
                yield (span,)
            else:
                yield from ((span, *others) for others in alignments(rest, text, span[1]))


def places(surface: str, text: str) -> list[Fragments]:
    """What a surface may name, in order: whole words, else fragments, else parts of words.

    None are named where fragments could be chosen in several ways that are equally tight.
    """
    every = list(alignments(surface, text))
    whole: list[Fragments] = [fragments for fragments in every if len(fragments) == 1]
    if whole:
        return whole
    windows = {(fragments[0][0], fragments[-1][1]) for fragments in every}
    innermost = [
        (start, end)
        for start, end in sorted(windows)
        if not any(start <= s and e <= end and (s, e) != (start, end) for s, e in windows)
    ]
    found: list[Fragments] = []
    for start, end in innermost:
        within = [f for f in every if (f[0][0], f[-1][1]) == (start, end)]
        fewest = min(map(len, within))
        tightest = [fragments for fragments in within if len(fragments) == fewest]
        if len(tightest) > 1:
            return []
        found += tightest
    return found or [(span,) for span in occurrences(surface, text)]
