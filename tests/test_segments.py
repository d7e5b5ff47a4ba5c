"""Pieces of a text: in order, inside the text, with nothing but white space between them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.pipeline.segments import SEGMENTS, segments, sentences, windows
from tests.support.strategies import texts


def short(most: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= most


@given(texts(), st.sampled_from(SEGMENTS), st.integers(1, 40))
def test_nothing_is_lost(text: str, by: str, most: int) -> None:
    found = list(segments(text, by, short(most)))
    at = 0
    for start, end in found:
        assert not text[at:start].strip()
        assert start < end
        at = end
    assert not text[at:].strip()
    if by != "none":
        for start, end in found:
            assert text[start:end] == text[start:end].strip()


@given(st.text("ab \n", max_size=80), st.integers(1, 12))
def test_windows_are_the_fewest_that_fit(text: str, most: int) -> None:
    found = list(windows(text, (0, len(text)), short(most)))
    for start, end in found:
        # What does not fit is one run of non-space.
        assert end - start <= most or not any(map(str.isspace, text[start:end]))
    for (start, _), (following, _) in pairwise(found):
        end = len(text)
        word = next(i for i in range(following, end + 1) if i == end or text[i].isspace())
        assert word - start > most


@pytest.mark.parametrize(
    "expected",
    [
        ["No fever.", "He took 2.5 mg of aspirin q.d. since 2019."],
        ["The level was raised, e.g. in Fig. 2 of Smith et al. (2010).", "It fell later."],
        ["IL-2, i.e. interleukin 2, was given vs. placebo.", "Dr. Miller agreed."],
        ["E. coli and S. aureus were found.", "Growth of E. coli stopped at 0.5 mM."],
    ],
)
@pytest.mark.parametrize("between", [" ", "\n\n", "\r\n \r\n"])
def test_sentences(expected: list[str], between: str) -> None:
    text = between.join(expected)
    assert [text[start:end] for start, end in sentences(text)] == expected


def test_a_heading_ends_at_a_blank_line() -> None:
    text = "HISTORY\n\nChest pain since 3 a.m.\n\nPLAN\n \nDischarge"
    found = [text[start:end] for start, end in sentences(text)]
    assert found == ["HISTORY", "Chest pain since 3 a.m.", "PLAN", "Discharge"]


def test_a_text_that_fits_is_one_window() -> None:
    text = "  One sentence. Another one.\n"
    assert list(segments(text, "window", short(100))) == [(2, 28)]
    assert list(segments(text, "none", short(1))) == [(0, len(text))]
    assert not list(segments(" \n ", "sentence", short(1)))
