"""From a surface that has no offset to its place in the text.

The rule: the leftmost occurrence at word boundaries that is not yet taken by the same label, after
the item before it where there is one, else anywhere. *After* is text order: an item that starts
where the one before it does comes after it if it ends earlier, or ends there and has the greater
label; so the answer for a document, which is in text order, is aligned in text order. A surface
that stands nowhere in one piece is aligned as fragments, leftmost and tightest. An occurrence, or
a fragment, that begins or ends inside a word counts only where there is neither one piece nor
fragments at word boundaries: a mask writes whole words, and they are read as whole words. In the
same way a surface is read as no more fragments than the mask allows, where it can be. A mask that
allows fragments, or parts of words, may write a surface once for each of these, too: once its
better places are taken they are next.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from math import comb

import numpy as np
from numpy.typing import NDArray

from constrained_ner.documents import Entity
from constrained_ner.formats.options import MAX_FRAGMENTS
from constrained_ner.words import Span, boundaries_of

Fragments = tuple[Span, ...]

# A bound on the search for fragments, on the occurrences of a surface's parts times fragments: so
# many are searched in a second. It is three times what comes from the longest text that has a mask
# with fragments.
MAX_SEARCHED = 20_000_000
# Surfaces whose places are remembered: models repeat themselves.
REMEMBERED = 32

# Of several alignments the one that ends first counts, and of those the one with the fewest
# fragments. One number holds both: the end times ENDING, plus the fragments.
ENDING = 1 << 24
NEVER = np.iinfo(np.int64).max >> 1


def occurrences(surface: str, text: str) -> Iterator[Span]:
    """Spans of `text` that read `surface`, from left to right, overlapping ones included."""
    at = text.find(surface)
    while surface and at >= 0:
        yield at, at + len(surface)
        at = text.find(surface, at + 1)


def most_mentions(surface: str, text: str, fragments: int = 1) -> int:
    """The most entities of one label that can have a surface.

    Of one piece: as many as the text has of it. Of several fragments, no more than the ways to find
    the surface's words (it is split at single spaces) one after another, times the ways to join
    them to fragments.
    """
    if fragments == 1:
        return sum(1 for _ in occurrences(surface, text))
    words = surface.split(" ")
    # Where the words so far may end, and how many ways there are to end no later.
    ends, ways = [0], [0, 1]
    for word in filter(None, words):  # between two spaces there is none
        starts = [start for start, _ in occurrences(word, text)]
        here = [ways[bisect_right(ends, start)] for start in starts]
        ends = [start + len(word) for start in starts]
        ways = [0, *accumulate(here)]
    cuts = len(words) - 1
    return ways[-1] * sum(comb(cuts, k) for k in range(fragments))


class _Candidates:
    """The places of one surface that are of one kind, and which of them a label has not taken yet.

    The next free one is found at once. Otherwise an answer that says the same surface thousands of
    times would be read in quadratic time.

    Attributes
    ----------
    places: from left to right, of pieces or of fragments; no two begin at one place.
    starts: where each begins.
    """

    def __init__(self, places: list[Fragments]):
        self.places = places
        self.starts = [fragments[0][0] for fragments in places]
        # By label, a link from each place to the next one, or the one before, that may be free: to
        # itself where it may be. A link beyond the last place says that there is none.
        self._after: dict[str, list[int]] = {}
        self._before: dict[str, list[int]] = {}

    def free_from(self, at: int, label: str, taken: set[tuple[str, Fragments]]) -> int:
        """The first free place from `at` on; their number where there is none."""
        links = self._links(self._after, label)
        return self._free(links, at, 1, label, taken)

    def free_before(self, at: int, label: str, taken: set[tuple[str, Fragments]]) -> int:
        """The last free place before `at`; -1 where there is none."""
        links = self._links(self._before, label)
        return self._free(links, at, -1, label, taken) - 1

    def _links(self, by_label: dict[str, list[int]], label: str) -> list[int]:
        if label not in by_label:
            by_label[label] = list(range(len(self.places) + 1))
        return by_label[label]

    def _free(
        self, links: list[int], at: int, step: int, label: str, taken: set[tuple[str, Fragments]]
    ) -> int:
        # Links to the place before are kept one higher, so that 0 is none.
        end, shift = (len(self.places), 0) if step > 0 else (0, 1)
        passed = []
        while at != end:
            if links[at] != at:
                passed.append(at)
                at = links[at]
            elif (label, self.places[at - shift]) in taken:
                links[at] = at + step
            else:
                break
        for place in passed:
            links[place] = at
        return at


class Aligner:
    """Places one answer's surfaces, in the answer's order, and remembers what is taken.

    Parameters
    ----------
    most, boundaries: the most fragments that the mask lets through, and where they may begin and
        end, `word` or `character`. Places that it lets through come before others.
    """

    def __init__(self, text: str, most: int = 1, boundaries: str = "word"):
        self.text = text
        self.most = most
        self.boundaries = boundaries
        self.taken: set[tuple[str, Fragments]] = set()
        self.previous: Entity | None = None
        self.known: dict[tuple[str, int], list[list[_Candidates]]] = {}

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
        previous = self.previous
        for known in chain.from_iterable(self._candidates(surface)):
            begin = 0
            if previous is not None:
                begin = bisect_left(known.starts, previous.start)
                if begin < len(known.starts) and known.starts[begin] == previous.start:
                    begin += Entity(label, known.places[begin]).key <= previous.key
            for at in (begin, 0):
                free = known.free_from(at, label, self.taken)
                if free < len(known.places) and self.take(label, known.places[free]):
                    return known.places[free]
        return None

    def nearest(
        self, surface: str, label: str, written: Fragments, *, masked: bool = False
    ) -> Fragments | None:
        """Take the occurrence nearest to the offsets written, and not yet taken.

        The written offsets themselves come first where they do read the surface. Distance is
        that of the starts, then that of the ends.

        Parameters
        ----------
        masked: a mask made the surface, of whole pieces of the text, and let any offsets through:
            they count where a mask would have made the surface of that place.
        """
        offsets = [offset for span in written for offset in span]
        pieces = [self.text[start:end] for start, end in written]
        possible = offsets == sorted(offsets) and offsets[-1] <= len(self.text) and all(pieces)
        if possible and masked:
            cuts = boundaries_of(self.text, self.boundaries)
            possible = all(offset in cuts for offset in offsets) and not any(
                piece[0].isspace() or piece[-1].isspace() for piece in pieces
            )
        if possible and " ".join(pieces) == surface and self.take(label, written):
            return written
        start, end = written[0][0], written[-1][1]

        def distance(place: Fragments) -> tuple[int, int]:
            return abs(place[0][0] - start), abs(place[-1][1] - end)

        for kinds in self._candidates(surface, len(written)):
            beside = []
            for known in kinds:
                middle = bisect_left(known.starts, start)
                before = known.free_before(middle, label, self.taken)
                after = known.free_from(middle, label, self.taken)
                beside += [known.places[i] for i in (before, after) if 0 <= i < len(known.places)]
            for fragments in sorted(beside, key=distance):
                if self.take(label, fragments):
                    return fragments
        return None

    def in_text(self, surface: str) -> bool:
        return bool(self._candidates(surface))

    def _candidates(self, surface: str, fragments: int = 1) -> list[list[_Candidates]]:
        """Every place that may be taken: kinds that are as good as each other, the best first.

        All kinds that the mask lets through; where the text has none of them the best other one.

        Parameters
        ----------
        fragments: how many there are by the offsets written: of several, one piece is no better.
        """
        key = surface, fragments
        if key not in self.known:
            if len(self.known) == REMEMBERED:
                self.known.clear()
            self.known[key] = self._found(surface, fragments)
        return self.known[key]

    def _found(self, surface: str, fragments: int) -> list[list[_Candidates]]:
        whole: list[Fragments] = [(span,) for span in occurrences(surface, self.text)]
        cuts = boundaries_of(self.text)
        pieces = {
            "word": [c for c in whole if c[0][0] in cuts and c[0][1] in cuts],
            "character": whole,
        }

        def kinds(most: int, boundaries: Iterable[str]) -> Iterator[list[_Candidates]]:
            for where in boundaries:
                split = fragmented(surface, self.text, where, most)
                both = [_Candidates(places) for places in (split, pieces[where]) if places]
                yield from [both] if fragments > 1 else ([kind] for kind in reversed(both))

        masked = ["word"] if self.boundaries == "word" else list(pieces)
        found = list(filter(None, kinds(max(self.most, fragments), masked)))
        return found or list(islice(filter(None, kinds(MAX_FRAGMENTS, pieces)), 1))


def fragmented(
    surface: str, text: str, boundaries: str = "word", most: int = MAX_FRAGMENTS
) -> list[Fragments]:
    """The tightest alignments of a surface as 2 to `most` fragments, from left to right.

    The surface's parts (it is split at single spaces) are found in text order, each at the
    boundaries asked for; parts that stand together in the text make one fragment. Of the
    alignments that begin at one place the one that ends first counts, and of two where one lies
    inside the other the inner one. None are looked for where that would take too long.
    """
    parts = surface.split(" ")
    longest = len(text) + most - 1  # a space between fragments may be none of the text
    if most < 2 or len(parts) < 2 or len(surface) > longest:
        return []
    if any(part not in text for part in parts):
        return []
    places = {part: _places(part, text, boundaries) for part in {*parts}}
    most = min(most, len(parts))
    if sum(len(places[part]) for part in parts) * most > MAX_SEARCHED:
        return []
    return _Search(text, parts, [places[part] for part in parts], most).tightest()


def _places(part: str, text: str, boundaries: str) -> NDArray[np.int64]:
    """Where a part begins; an empty one stands between two spaces."""
    if not part:
        found = [match.start() for match in re.finditer("(?<= ) ", text)]
    else:
        cuts = boundaries_of(text, boundaries)
        found = [s for s, e in occurrences(part, text) if s in cuts and e in cuts]
    return np.array(found, np.int64)


class _Search:
    """Alignments of parts, from the last part back to the first, at all places at once.

    Parameters
    ----------
    starts: of each part its places, ascending. `most`: fragments.

    What is kept of each part, in arrays [fragments before this one, place]: whether a fragment is
    best closed after it (or else goes on, with which place of the next part), and whether a
    fragment that begins there is better than all that begin later.
    """

    def __init__(
        self, text: str, parts: Sequence[str], starts: Sequence[NDArray[np.int64]], most: int
    ):
        spaces = np.frombuffer(f"{text}.".encode("utf-32-le", "surrogatepass"), np.uint32) == 32
        self.starts = starts
        self.lengths = [len(part) for part in parts]
        self.closed: list[NDArray[np.bool_]] = []
        self.following: list[NDArray[np.int64]] = []
        self.best: list[NDArray[np.bool_]] = []
        # How an alignment of the parts from the next one on ends: one whose fragment goes on at a
        # place, and the best that begins there or later.
        onward = after = np.zeros((most, 1), np.int64)
        for i in reversed(range(len(parts))):
            ends = starts[i] + self.lengths[i]
            closing = np.full((most, len(ends)), NEVER)
            following = np.zeros(len(ends), np.int64)
            going_on = closing.copy()
            if i + 1 == len(parts):
                closing[1:] = ends * ENDING + 1
            else:
                later = starts[i + 1]
                closing[:-1] = after[1:, np.searchsorted(later, ends)] + 1
                following = np.searchsorted(later, ends + 1)
                together = (np.append(later, -1)[following] == ends + 1) & spaces[ends]
                going_on[:, together] = onward[:, following[together]]
            if not parts[i] or parts[i][-1].isspace():
                closing[:] = NEVER
            onward = np.minimum(np.minimum(closing, going_on), NEVER)
            beginning = onward.copy()
            if not parts[i] or parts[i][0].isspace():
                beginning[:] = NEVER
            after = np.minimum.accumulate(beginning[:, ::-1], axis=1)[:, ::-1]
            self.closed.append(closing <= going_on)
            self.following.append(following)
            self.best.append((beginning == after) & (beginning < NEVER))
            after = np.pad(after, ((0, 0), (0, 1)), constant_values=NEVER)
        for kept in (self.closed, self.following, self.best):
            kept.reverse()
        self.ends = beginning[0]

    def tightest(self) -> list[Fragments]:
        """Of each window that holds no other one its alignment."""
        found: list[Fragments] = []
        inner = NEVER // ENDING
        for at in reversed(range(len(self.ends))):
            end = int(self.ends[at]) // ENDING
            if end < inner:
                inner = end
                found.append(self._from(at))
        return found[::-1]

    def _from(self, place: int) -> Fragments:
        """The best alignment that begins at a place of the first part."""
        fragments: list[Span] = []
        start = int(self.starts[0][place])
        for i, length in enumerate(self.lengths):
            if not self.closed[i][len(fragments), place]:
                place = self.following[i][place]
                continue
            end = int(self.starts[i][place]) + length
            fragments.append((start, end))
            if i + 1 < len(self.lengths):
                # Of equal ones the first.
                place = int(np.searchsorted(self.starts[i + 1], end))
                place += int(self.best[i + 1][len(fragments), place:].argmax())
                start = int(self.starts[i + 1][place])
        return tuple(fragments)
