"""From a surface that has no offset to its place in the text.

The rule: the leftmost occurrence at word boundaries that is not yet taken by the same label, after
the item before it where there is one, else anywhere. *After* is text order: an item that starts
where the one before it does comes after it if it ends earlier, or ends there and has the greater
label; so the answer for a document, which is in text order, is aligned in text order. A surface
that stands nowhere in one piece is aligned as fragments, leftmost and tightest. An occurrence, or
a fragment, that begins or ends inside a word counts only where there is neither one piece nor
fragments at word boundaries: what a mask makes of whole words is read as whole words. And what a
mask makes of so many fragments is read as no more, where it can be.
"""

from __future__ import annotations

from collections.abc import Iterator

from constrained_ner.documents import Entity
from constrained_ner.words import Span, on_boundaries

Fragments = tuple[Span, ...]

# Bounds on the search for fragments: the first is far above any annotated mention we know of (three
# fragments in the published corpora), the second is the longest text of which a mask makes some.
MAX_FRAGMENTS = 8
MAX_PARTS = 1000


def occurrences(surface: str, text: str, start: int = 0) -> Iterator[Span]:
    """Spans of `text` that read `surface`, from left to right, overlapping ones included."""
    at = text.find(surface, start)
    while surface and at >= 0:
        yield at, at + len(surface)
        at = text.find(surface, at + 1)


class Aligner:
    """Places one answer's surfaces, in the answer's order, and remembers what is taken.

    Parameters
    ----------
    most: the most fragments, and `boundaries`: where they may begin and end, `word` or
        `character`, of what a mask lets through. Such places come before others.
    """

    def __init__(self, text: str, most: int = MAX_FRAGMENTS, boundaries: str = "word"):
        self.text = text
        self.most = most
        self.boundaries = boundaries
        self.taken: set[tuple[str, Fragments]] = set()
        self.previous: Entity | None = None

    def take(self, label: str, fragments: Fragments) -> bool:
        """Claim a place; False where the same label has it already."""
        if (label, fragments) in self.taken:
            return False
        self.taken.add((label, fragments))
        self.previous = Entity(label, fragments)
        return True

    def leftmost(self, surface: str, label: str) -> Fragments | None:
        """Align by the module's rule and take the place.

        Returns None where the surface is not in the text, or is there but taken: `in_text` tells
        the two apart.
        """
        candidates = self._candidates(surface)
        ahead = candidates
        if self.previous is not None:
            key = self.previous.key
            ahead = [c for c in candidates if Entity(label, c).key > key]
        for fragments in ahead + candidates:
            if self.take(label, fragments):
                return fragments
        return None

    def nearest(self, surface: str, label: str, written: Fragments) -> Fragments | None:
        """Take the occurrence nearest to the offsets written, and not yet taken.

        The written offsets themselves come first where they do read the surface. Distance is
        that of the starts, then that of the ends.
        """
        offsets = [offset for span in written for offset in span]
        pieces = [self.text[start:end] for start, end in written]
        possible = offsets == sorted(offsets) and offsets[-1] <= len(self.text) and all(pieces)
        if possible and " ".join(pieces) == surface and self.take(label, written):
            return written
        candidates = self._candidates(surface, len(written))
        target = written[0][0], written[-1][1]
        candidates.sort(key=lambda c: (abs(c[0][0] - target[0]), abs(c[-1][1] - target[1])))
        for fragments in candidates:
            if self.take(label, fragments):
                return fragments
        return None

    def in_text(self, surface: str) -> bool:
        return bool(self._candidates(surface))

    def _candidates(self, surface: str, fragments: int = 1) -> list[Fragments]:
        """Every place that may be taken."""
        return next(filter(None, self._groups(surface, fragments)), [])

    def _groups(self, surface: str, fragments: int) -> Iterator[list[Fragments]]:
        """Places of one kind after another, the best kind first.

        Parameters
        ----------
        fragments: how many there are by the offsets written: of several, one piece is no better.
        """
        whole: list[Fragments] = [(span,) for span in occurrences(surface, self.text)]
        of = {"word": [c for c in whole if on_boundaries(*c[0], self.text)], "character": whole}
        masked = ["word"] if self.boundaries == "word" else list(of)
        for most, kinds in ((max(self.most, fragments), masked), (MAX_FRAGMENTS, list(of))):
            for boundaries in kinds:
                split = fragmented(surface, self.text, boundaries, most)
                if fragments > 1:
                    yield split + of[boundaries]
                else:
                    yield of[boundaries]
                    yield split


def fragmented(
    surface: str, text: str, boundaries: str = "word", most: int = MAX_FRAGMENTS
) -> list[Fragments]:
    """The tightest alignments of a surface as 2 to `most` fragments, from left to right.

    The surface's parts (it is split at single spaces) are found in text order, each at the
    boundaries asked for; parts that stand together in the text make one fragment. Of the
    alignments that begin at one place the one that ends first counts, and of two where one lies
    inside the other the inner one.
    """
    parts = surface.split(" ")
    if most < 2 or not 2 <= len(parts) <= MAX_PARTS or any(part not in text for part in parts):
        return []
    found: dict[tuple[int, int, int], Fragments | None] = {}

    def first_end(index: int, start: int, depth: int) -> Fragments | None:
        """The alignment of parts[index:] at or after `start` that ends first.

        Parameters
        ----------
        depth: the number of the fragment that begins there.
        """
        if index == len(parts):
            return ()
        if depth > most:
            return None
        key = index, start, depth
        if key not in found:
            found[key] = best(
                candidate
                for last, piece in pieces(index)
                for span in nearest_piece(piece, start)
                for candidate in extend(span, last, depth)
            )
        return found[key]

    def pieces(index: int) -> Iterator[tuple[int, str]]:
        """The parts from `index` on that stand together in the text: behind which, and joined."""
        for last in range(index + 1, len(parts) + 1):
            piece = " ".join(parts[index:last])
            if piece not in text:
                return
            yield last, piece

    def nearest_piece(piece: str, start: int) -> Iterator[Span]:
        if piece and not piece[0].isspace() and not piece[-1].isspace():
            for span in occurrences(piece, text, start):
                if on_boundaries(*span, text, boundaries):
                    yield span
                    return

    def extend(span: Span, index: int, depth: int) -> Iterator[Fragments]:
        rest = first_end(index, span[1], depth + 1)
        if rest is not None:
            yield (span, *rest)

    def best(candidates: Iterator[Fragments]) -> Fragments | None:
        return min(candidates, key=lambda f: (f[-1][1], len(f), f), default=None)

    alignments: list[Fragments] = []
    for last, piece in pieces(0):
        for span in occurrences(piece, text):
            if last < len(parts) and on_boundaries(*span, text, boundaries):
                alignments += extend(span, last, 1)
    # Innermost windows only: for each end the latest start, fewest fragments first.
    alignments.sort(key=lambda f: (-f[0][0], f[-1][1], len(f), f))
    tight: list[Fragments] = []
    for candidate in alignments:
        if not tight or candidate[-1][1] < tight[-1][-1][1]:
            tight.append(candidate)
    return tight[::-1]
