"""Pieces of a text: in order, inside the text, with nothing but white space between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.pipeline.segments import SEGMENTS, pieces, segments, sentences, together
from constrained_ner.pipeline.view import view_of
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
    found = list(pieces(text, (0, len(text)), short(most)))
    for start, end in found:
        # What does not fit is one run of non-space.
        shown = view_of(text, (start, end)).text
        assert len(shown) <= most or " " not in shown
    for (start, _), (following, _) in pairwise(found):
        end = len(text)
        word = next(i for i in range(following, end + 1) if i == end or text[i].isspace())
        assert len(view_of(text, (start, word)).text) > most


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


NOTE = """HPI:
Denies fever. Patient with type 2
diabetes mellitus and chronic obstructive pulmonary
disease, seen today with Dr. Miller for follow-up of
Vit. D deficiency.

MEDICATIONS
- Inj. Lasix 20 mg
- Tab. Metoprolol 50 mg
a. Aspirin
b. Metformin
Plan:
Follow up in 2 weeks. See Figs. 2 and 3. P. syringae pv. tabaci and S. enterica subsp. enterica
grew for approx. 3 days. A patient with MS. Later we left.
Name: John Doe
BP\t120/80\t130/90
Amoxicillin 500 mg
Metoprolol 50 mg
"""
OF_NOTE = [
    "HPI:",
    "Denies fever.",
    "Patient with type 2 diabetes mellitus and chronic obstructive pulmonary disease, seen today "
    "with Dr. Miller for follow-up of Vit. D deficiency.",
    "MEDICATIONS",
    "- Inj. Lasix 20 mg",
    "- Tab. Metoprolol 50 mg",
    "a. Aspirin",
    "b. Metformin",
    "Plan:",
    "Follow up in 2 weeks.",
    "See Figs. 2 and 3.",
    "P. syringae pv. tabaci and S. enterica subsp. enterica grew for approx. 3 days.",
    "A patient with MS.",
    "Later we left.",
    "Name: John Doe",
    "BP 120/80 130/90",
    "Amoxicillin 500 mg",
    "Metoprolol 50 mg",
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028"])
def test_a_note(end: str) -> None:
    text = NOTE.replace("\n", end)
    assert [view_of(text, span).text for span in sentences(text)] == OF_NOTE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ASSESSMENT\nTHE PATIENT WAS DIAGNOSED WITH CHRONIC OBSTRUCTIVE\nPULMONARY DISEASE AND "
            "SEVERE CONGESTIVE HEART\nFAILURE. NO CHEST PAIN.\nPLAN:\nFOLLOW UP",
            [
                "ASSESSMENT",
                "THE PATIENT WAS DIAGNOSED WITH CHRONIC OBSTRUCTIVE PULMONARY DISEASE AND SEVERE "
                "CONGESTIVE HEART FAILURE.",
                "NO CHEST PAIN.",
                "PLAN:",
                "FOLLOW UP",
            ],
        ),
        (
            "The patient was admitted with pneumonia and was found to have stage\nIV CKD.\nPLAN",
            [
                "The patient was admitted with pneumonia and was found to have stage IV CKD.",
                "PLAN",
            ],
        ),
        ("CHF\nCOPD\nDM TYPE 2", ["CHF", "COPD", "DM TYPE 2"]),
    ],
)
def test_lines_in_capitals(text: str, expected: list[str]) -> None:
    """They are headings, but for the last line of a paragraph and for notes all in capitals."""
    assert [view_of(text, span).text for span in sentences(text)] == expected


def test_a_justified_paragraph_is_no_table() -> None:
    text = "heart failure   with   reduced ejection fraction and is\non furosemide   since 2019."
    assert [view_of(text, span).text for span in sentences(text)] == [
        "heart failure with reduced ejection fraction and is on furosemide since 2019."
    ]
    rows = "Metoprolol     50 mg\nAspirin        100 mg"
    assert len(list(sentences(rows))) == 2


@given(st.lists(st.text("ab-.: \té𝔸A1|,", max_size=30), max_size=6))
def test_line_ends_are_alike(lines: list[str]) -> None:
    found = []
    for end in ("\n", "\r\n", "\r", "\u2028"):
        text = end.join(lines)
        found.append([view_of(text, span).text for span in sentences(text)])
    assert found == [found[0]] * 4


def test_windows_are_sentences_together() -> None:
    lengths = (20, 20, 20, 1, 70, 5)
    text = " ".join(" ".join(["word"] * n) + "." for n in lengths)
    spans = [(m.start(), m.end()) for m in re.finditer(r"[^.]+\.", text)]
    words = [len(text[start:end].split()) for start, end in together(text, spans)]
    assert words == [60, 1, 70, 5]
