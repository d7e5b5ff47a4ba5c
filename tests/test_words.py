"""Units, word boundaries, and the words of multi_bio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.words import (
    covering,
    joined,
    on_boundaries,
    one_line,
    shared_prefix,
    tokens,
    units,
)
from tests.support.strategies import strings, texts

EXAMPLE = (
    "These results suggest that BCL6 plays a role in activated lymphocytes as an immediate "
    "early gene."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("CD28-mediated", ["CD28", "-", "mediated"]),
        ("a_b 1,5", ["a_b", " ", "1", ",", "5"]),
        ("e\u0301x \u0301", ["e\u0301x", " ", "\u0301"]),
        ("a\r\n", ["a", "\r", "\n"]),
        ("中文x²", ["中文x²"]),
        ("a\u200bb", ["a", "\u200b", "b"]),
        ("👩\u200d🔬❤\ufe0f", ["👩", "\u200d", "🔬", "❤", "\ufe0f"]),
        ("--", ["-", "-"]),
    ],
)
def test_units(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in units(text)] == expected


@pytest.mark.parametrize("boundaries", ["word", "character"])
@given(text=strings())
def test_units_cover_the_text_and_lie_on_boundaries(boundaries: str, text: str) -> None:
    pieces = units(text, boundaries)
    assert "".join(text[start:end] for start, end in pieces) == text
    edges = {0, len(text)} | {start for start, _ in pieces}
    for i in range(len(text)):
        assert on_boundaries(i, len(text), text, boundaries) == (i in edges)
        assert on_boundaries(0, i, text, boundaries) == (i in edges)


def test_the_words_of_the_papers_example() -> None:
    assert len(tokens(EXAMPLE)) == 16
    fine = [EXAMPLE[start:end] for start, end in tokens(EXAMPLE, "fine")]
    assert fine[-2:] == ["gene", "."]


@given(text=strings())
def test_words(text: str) -> None:
    assert [text[start:end] for start, end in tokens(text)] == text.split()
    fine = [text[start:end] for start, end in tokens(text, "fine")]
    assert "".join(fine) == "".join(text.split())
    assert not any(word.isspace() for word in fine)


@given(text=texts(), data=st.data())
def test_covering(text: str, data: st.DataObject) -> None:
    words = tokens(text)
    start, end = sorted(
        (data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text))))
    )
    found = covering(words, start, end)
    possible = [
        (i, j + 1)
        for i in range(len(words))
        for j in range(i, len(words))
        if (words[i][0], words[j][1]) == (start, end)
    ]
    assert possible == ([] if found is None else [found])


def _alike(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


@given(same=st.text("ab", max_size=40), one=st.text("ab"), other=st.text("ab"))
def test_what_two_sequences_share(same: str, one: str, other: str) -> None:
    a, b = same + one, same + other
    assert shared_prefix(a, b) == shared_prefix(list(a), list(b)) == _alike(a, b) >= len(same)


@given(words=st.lists(st.text("ab ", min_size=1)))
def test_words_stand_in_their_text(words: list[str]) -> None:
    text, spans = joined(words)
    assert [text[slice(*span)] for span in spans] == words
    assert text == " ".join(words)


@given(text=strings())
def test_one_line(text: str) -> None:
    line = one_line(text)
    assert len(line) == len(text)
    assert len(line.splitlines()) <= 1
    assert all(a == b or (b == " " and a.isspace()) for a, b in zip(text, line, strict=True))
