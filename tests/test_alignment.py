"""From surfaces to places in the text."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.documents import Document, Entity
from constrained_ner.formats import Options, get_format
from constrained_ner.formats.alignment import (
    Aligner,
    Fragments,
    fragmented,
    most_mentions,
    occurrences,
)
from constrained_ner.formats.grammar import Level
from constrained_ner.formats.options import MAX_FRAGMENTS
from tests.support.alignment import alignments, places
from tests.support.strategies import strings, texts

Item = tuple[str, str]


@pytest.mark.parametrize(
    ("text", "items", "expected"),
    [
        # The k-th copy of a string is its k-th mention.
        ("a b a", [("x", "a"), ("x", "a")], [((0, 1),), ((4, 5),)]),
        # At or after the item before it.
        ("a b a", [("x", "b"), ("x", "a")], [((2, 3),), ((4, 5),)]),
        # Else anywhere.
        ("a b", [("x", "b"), ("x", "a")], [((2, 3),), ((0, 1),)]),
        # Taken is taken by a label.
        ("a", [("x", "a"), ("y", "a"), ("x", "a")], [((0, 1),), ((0, 1),), None]),
        # Whole words first, and the inside of words where there is none.
        ("CD28 D28", [("x", "D28")], [((5, 8),)]),
        ("CD28", [("x", "D28")], [((1, 4),)]),
        ("CD28-mediated", [("x", "CD28")], [((0, 4),)]),
        # Overlapping occurrences.
        ("a-a-a", [("x", "a-a"), ("x", "a-a")], [((0, 3),), ((2, 5),)]),
        # An item that starts where the one before it does follows it in text order.
        ("a b x a b", [("x", "a"), ("x", "a b")], [((0, 1),), ((6, 9),)]),
        ("a b x a b", [("x", "a b"), ("x", "a")], [((0, 3),), ((0, 1),)]),
        ("a x a", [("y", "a"), ("x", "a")], [((0, 1),), ((4, 5),)]),
        ("a x", [("y", "a"), ("x", "a")], [((0, 1),), ((0, 1),)]),
        # Fragments: leftmost and tightest.
        ("left and right knee pain", [("x", "left knee pain")], [((0, 4), (15, 24))]),
        ("a b a c", [("x", "a c b")], [None]),
        ("a x a y b", [("x", "a b")], [((4, 5), (8, 9))]),
        ("a x b a y b", [("x", "a b"), ("x", "a b")], [((0, 1), (4, 5)), ((6, 7), (10, 11))]),
        ("a x b a b", [("x", "a b")], [((6, 9),)]),
        ("a b x c", [("x", "a b c")], [((0, 3), (6, 7))]),
        ("00", [("x", "0 0")], [((0, 1), (1, 2))]),
        # Fragments at word boundaries before one piece that begins or ends inside a word.
        ("1 is T1 x", [("x", "1 x"), ("x", "1 x")], [((0, 1), (8, 9)), None]),
        ("T1 x", [("x", "1 x")], [((1, 4),)]),
        ("a", [("x", ""), ("x", " "), ("x", "b"), ("x", "a a")], [None, None, None, None]),
        # The text is searched as it is.
        ("İ i", [("x", "i")], [((2, 3),)]),
        ("e\u0301", [("x", "\u00e9")], [None]),
    ],
)
def test_leftmost(text: str, items: list[Item], expected: list[Fragments | None]) -> None:
    aligner = Aligner(text)
    assert [aligner.leftmost(surface, label) for label, surface in items] == expected


@pytest.mark.parametrize(
    ("text", "surface", "written", "expected"),
    [
        ("a b a b a", "a", ((4, 5),), ((4, 5),)),
        ("a b a b a", "a", ((5, 9),), ((4, 5),)),
        ("a b a b a", "a", ((7, 9),), ((8, 9),)),
        ("a b a b a", "a", ((90, 91),), ((8, 9),)),
        ("a b a b a", "a", ((2, 2),), ((0, 1),)),
        ("abc", "b", ((1, 2),), ((1, 2),)),
        ("abc", "abc", ((0, 99),), ((0, 3),)),
        ("a b", "c", ((0, 1),), None),
        ("a b c", "a c", ((0, 1), (4, 5)), ((0, 1), (4, 5))),
        ("a b c", "a c", ((0, 5),), ((0, 1), (4, 5))),
        ("a b", "a b", ((0, 1), (2, 3)), ((0, 1), (2, 3))),
        ("a b", "a b", ((0, 2),), ((0, 3),)),
        ("b a b", "b a", ((4, 5), (2, 3)), ((0, 1), (2, 3))),
    ],
)
def test_nearest(text: str, surface: str, written: Fragments, expected: Fragments | None) -> None:
    assert Aligner(text).nearest(surface, "x", written) == expected


def test_no_more_fragments_than_a_mask_lets_through() -> None:
    text = "1 (T1 gene"
    pieces, inside = ((0, 1), (6, 10)), ((4, 10),)
    assert Aligner(text).leftmost("1 gene", "x") == pieces
    assert Aligner(text, 1, "character").leftmost("1 gene", "x") == inside
    assert Aligner(text, 2, "character").leftmost("1 gene", "x") == pieces
    # Where there is no other way it is read all the same.
    assert Aligner("1 (T gene", 1, "character").leftmost("1 gene", "x") == ((0, 1), (5, 9))
    character = Options(boundaries="character")
    for name, answer in (
        ("single_term", 'Answer: ["1 gene"]'),
        ("multi_triple", "Answer:\n1 gene; is a; x"),
        ("multi_brat", "Answer:\nT1 x 0 1 1 gene"),
    ):
        (entity,) = get_format(name, character).settle(answer, text, ("x",)).entities
        assert entity.fragments == inside


def test_no_more_fragments_than_a_mask_lets_through_of_words() -> None:
    text = "a x b y c z b c"
    tight, few = ((0, 1), (4, 5), (8, 9)), ((0, 1), (12, 15))
    assert Aligner(text).leftmost("a b c", "x") == tight
    assert Aligner(text, 2).leftmost("a b c", "x") == few
    assert Aligner(text, 1).leftmost("a b c", "x") == tight  # no mask makes this
    (entity,) = (
        get_format("single_term", Options(max_fragments=2))
        .settle('Answer: ["a b c"]', text, ("x",))
        .entities
    )
    assert entity.fragments == few


@pytest.mark.parametrize("name", ["single_term", "multi_term", "multi_triple", "multi_brat"])
@pytest.mark.parametrize(
    ("text", "options", "places"),
    [
        ("CD28 and CD", Options(boundaries="character"), [((0, 2),), ((9, 11),)]),
        (
            "left and right knee pain, left pain",
            Options(max_fragments=2),
            [((0, 4), (20, 24)), ((26, 35),)],
        ),
    ],
    ids=["inside a word", "fragments"],
)
def test_a_mask_that_allows_more_may_say_a_surface_once_more(
    name: str, text: str, options: Options, places: list[Fragments]
) -> None:
    """Entities that a mask lets through are all read, in one piece, split, or inside a word."""
    document = Document("1", text, tuple(Entity("x", place) for place in places))
    format = get_format(name, options)
    answer = format.encode(document, ("x",), Level.FAITHFUL)
    assert set(format.decode(answer, text, ("x",)).entities) == {*document.entities}


def test_surfaces_of_many_fragments() -> None:
    text = " x ".join("abcdefghi")
    surface = " ".join("abcdefgh")
    assert len(Aligner(text).leftmost(surface, "x") or ()) == MAX_FRAGMENTS
    assert Aligner(text).leftmost(f"{surface} i", "x") is None


def test_surfaces_of_many_words_in_fragments() -> None:
    many = " ".join(f"w{i}" for i in range(300))
    text = f"a, {many}"
    assert Aligner(text, 2).leftmost(f"a {many}", "x") == ((0, 1), (3, len(text)))


def test_nearest_not_taken() -> None:
    aligner = Aligner("a b a b a")
    assert aligner.nearest("a", "x", ((4, 5),)) == ((4, 5),)
    assert aligner.nearest("a", "y", ((4, 5),)) == ((4, 5),)
    assert aligner.nearest("a", "x", ((4, 5),)) == ((0, 1),)
    assert aligner.nearest("a", "x", ((4, 5),)) == ((8, 9),)
    assert aligner.nearest("a", "x", ((4, 5),)) is None
    assert aligner.in_text("a")
    assert not aligner.in_text("c")


@given(text=texts(), data=st.data())
def test_what_is_placed_reads_the_surface(text: str, data: st.DataObject) -> None:
    piece = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
        lambda ends: text[min(ends) : max(ends)]
    )
    surfaces = st.one_of(piece, st.lists(piece, max_size=3).map(" ".join), strings())
    items = data.draw(st.lists(st.tuples(st.sampled_from("xy"), surfaces), max_size=6))
    one, two = Aligner(text), Aligner(text)
    placed: set[tuple[str, Fragments]] = set()
    for label, surface in items:
        fragments = one.leftmost(surface, label)
        assert fragments == two.leftmost(surface, label)
        if fragments is None:
            continue
        assert Entity(label, fragments).surface(text) == surface
        assert fragments[-1][1] <= len(text)
        assert (label, fragments) not in placed
        placed.add((label, fragments))


@given(text=texts(), surface=strings())
def test_occurrences(text: str, surface: str) -> None:
    naive = [
        (i, i + len(surface)) for i in range(len(text)) if surface and text.startswith(surface, i)
    ]
    assert list(occurrences(surface, text)) == naive


words = st.lists(st.sampled_from(["a", "b", "c", "a-b", "bb"]), min_size=1, max_size=8)


@given(
    text=st.lists(st.sampled_from(["a", "b", "c", "a-b", "bb", " ", "\t"]), max_size=16),
    surface=words.filter(lambda w: len(w) < 5).map(" ".join),
)
def test_fragments_are_the_innermost_windows(text: list[str], surface: str) -> None:
    """Against all alignments there are."""
    together = "".join(text)
    every = list(alignments(surface, together))
    split = {span(f) for f in every if len(f) > 1}
    innermost = sorted(
        (start, end)
        for start, end in split
        if not any(start <= s and e <= end and (s, e) != (start, end) for s, e in split)
    )
    found = fragmented(surface, together)
    assert [span(f) for f in found] == innermost
    fewest = [
        min(len(f) for f in every if len(f) > 1 and span(f) == window) for window in innermost
    ]
    assert [len(f) for f in found] == fewest
    assert set(found) <= set(every)


@pytest.mark.parametrize(
    ("text", "surface", "most", "expected"),
    [
        ("a b a", "a", 1, 2),
        ("a-a-a", "a-a", 1, 2),
        ("a b", "x", 1, 0),
        ("a b", "b a", 3, 0),
        # Two words, one after the other: one fragment or two.
        ("a a b b", "a b", 2, 4 * 2),
        ("knee pain", "knee pain", 2, 2),
        ("a b c", "a b c", 2, 3),
        ("a  b", "a  b", 2, 3),
    ],
)
def test_most_mentions(text: str, surface: str, most: int, expected: int) -> None:
    assert most_mentions(surface, text, most) == expected


@given(
    text=st.lists(st.sampled_from(["a", "b", "a-b", "bb", " ", "\t"]), max_size=12),
    surface=words.filter(lambda w: len(w) < 5).map(" ".join),
    most=st.integers(1, 3),
)
def test_no_surface_has_more_mentions(text: list[str], surface: str, most: int) -> None:
    together = "".join(text)
    every = [f for f in alignments(surface, together) if len(f) <= most]
    assert len(set(every)) <= most_mentions(surface, together, most)


def span(fragments: Fragments) -> tuple[int, int]:
    return fragments[0][0], fragments[-1][1]


@given(
    text=st.lists(st.sampled_from(["a", "b", "c", "a-b", "bb", " ", "\t"]), max_size=16),
    surface=words.filter(lambda w: len(w) < 5).map(" ".join),
)
def test_a_surface_names_the_places_that_there_are(text: list[str], surface: str) -> None:
    """What the same surface is aligned to when it comes again and again."""
    together = "".join(text)
    expected = places(surface, together)
    aligner = Aligner(together)
    found = list(iter(lambda: aligner.leftmost(surface, "x"), None))
    assert found == expected or not expected


def test_a_long_and_foreign_surface_is_given_up() -> None:
    text = "a b " * 200
    assert fragmented("a a b " * 20, text) == []
    assert fragmented("a b c " * 10, text) == []
    assert Aligner(text).leftmost("b " * 9 + "x", "x") is None


@pytest.mark.parametrize(
    ("text", "surfaces"),
    [
        ("a b " * 2000, ["a a a a"] * 500),
        ("a " * 4000, ["a " * k + "a" for k in range(1, 500)]),
        ("a " * 1000 + "b " + "a " * 1000, ["a " * k + "b b" for k in range(100, 120)]),
        ("a " * 500 + "x " + "a " * 500, ["a " * k + "b" for k in range(900)]),
        (" ".join(f"w{i % 50} x" for i in range(2000)), [f"w{i} w{i + 1}" for i in range(49)]),
        ("a b c d " * 5, ["a b c d " * k + "a" for k in range(1500)]),
    ],
    ids=["repeats", "long", "in fragments", "foreign", "many", "longer than the text"],
)
def test_long_answers_are_read_in_time(text: str, surfaces: list[str]) -> None:
    """Not a timing: one that was cubic took minutes and more."""
    aligner = Aligner(text)
    for surface in surfaces:
        fragments = aligner.leftmost(surface, "x")
        assert fragments is None or Entity("x", fragments).surface(text) == surface


def test_a_search_that_would_not_end_is_given_up() -> None:
    text = "a " * 5000
    assert fragmented("a " * 99 + "a", text)
    assert fragmented("a " * 999 + "a", text) == []


class Plain(Aligner):
    """The same by trying each place, from the nearest or the leftmost on."""

    def leftmost(self, surface: str, label: str) -> Fragments | None:
        before = self.previous
        for known in chain.from_iterable(self._candidates(surface)):
            ahead = [
                place
                for place in known.places
                if before is None
                or (
                    (place[0][0], Entity(label, place).key) > (before.start, before.key)
                    and place[0][0] >= before.start
                )
            ]
            for place in [*ahead, *known.places]:
                if self.take(label, place):
                    return place
        return None

    def nearest(
        self, surface: str, label: str, written: Fragments, *, masked: bool = False
    ) -> Fragments | None:
        there = " ".join(self.text[start:end] for start, end in written)
        if there == surface and self.take(label, written):
            return written
        start, end = written[0][0], written[-1][1]
        for kinds in self._candidates(surface, len(written)):
            places = sorted(
                chain.from_iterable(known.places for known in kinds),
                key=lambda place: (abs(place[0][0] - start), abs(place[-1][1] - end)),
            )
            for place in places:
                if self.take(label, place):
                    return place
        return None


@given(data=st.data())
def test_places_are_those_found_by_trying_each(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(["a", "b", "aa", "ab"]), min_size=1, max_size=14))
    text, most = " ".join(words), data.draw(st.sampled_from([1, 2, 8]))
    boundaries = data.draw(st.sampled_from(["word", "character"]))
    one, other = Aligner(text, most, boundaries), Plain(text, most, boundaries)
    for _ in range(data.draw(st.integers(1, 20))):
        surface = data.draw(st.sampled_from(["a", "b", "a b", "aa", "b a", "a b a", "x"]))
        label = data.draw(st.sampled_from("LM"))
        if data.draw(st.booleans()):
            assert one.leftmost(surface, label) == other.leftmost(surface, label)
        else:
            start = data.draw(st.integers(0, len(text) - 1))
            middle = data.draw(st.integers(start + 1, len(text)))
            written: Fragments = ((start, middle),)
            if middle + 1 < len(text) and data.draw(st.booleans()):
                written += ((middle + 1, len(text)),)
            assert one.nearest(surface, label, written) == other.nearest(surface, label, written)


def test_thousands_of_equal_surfaces_are_read_in_a_time_that_grows_with_them() -> None:
    """Places looked at, not seconds: each is passed over once or twice."""
    looks = 0

    class Counted(set[tuple[str, Fragments]]):
        def __contains__(self, item: object) -> bool:
            nonlocal looks
            looks += 1
            return super().__contains__(item)

    number = 3000
    for nearest in (True, False):
        looks, aligner = 0, Aligner("pain " * number)
        aligner.taken = Counted()
        for _ in range(number):
            if nearest:
                assert aligner.nearest("pain", "x", ((7500, 7504),))
            else:
                assert aligner.leftmost("pain", "x")
        assert looks < 8 * number
