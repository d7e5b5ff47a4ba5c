"""Pieces of a text: in order, inside the text, with nothing to find between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.pipeline.headings import is_heading, says_nothing
from constrained_ner.pipeline.segments import (
    SEGMENTS,
    parts,
    pieces,
    sections,
    segments,
    sentences,
    together,
)
from constrained_ner.pipeline.view import view_of
from tests.support.strategies import texts


def short(most: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= most


def with_something_in_it(text: str, start: int, end: int) -> bool:
    """Whether a stretch of a text between segments is more than white space and usual words."""
    return not says_nothing("Plan " + text[start:end])


@given(texts(), st.sampled_from(SEGMENTS), st.integers(1, 40))
def test_nothing_is_lost(text: str, by: str, most: int) -> None:
    found = list(segments(text, by, short(most)))
    assert found
    at = 0
    for start, end in found:
        assert not with_something_in_it(text, at, start)
        assert start < end
        at = end
    assert not with_something_in_it(text, at, len(text))
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
        ["PU . 1 and a 7 . 2 - kb fragment were found .", "It fell later ."],
    ],
)
@pytest.mark.parametrize("between", [" ", "\n\n", "\r\n \r\n"])
def test_sentences(expected: list[str], between: str) -> None:
    text = between.join(expected)
    assert [text[start:end] for start, end in sentences(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "The blood culture of the patient grew methicillin-resistant\n"
            "S. aureus, and he was treated with vancomycin for ten days.",
            [0],
        ),
        (
            "- the wound of the patient grew methicillin-resistant\nS. aureus and some E. coli\n"
            "- wound care for two weeks, at home",
            [0, 81],
        ),
        (
            "The patient has had hypertension and diabetes mellitus type\n"
            "2. He also has asthma and was admitted with chest pain.",
            [0, 63],
        ),
        # Items, whose lines may be as long.
        (
            "1. Aspirin 81 mg daily, and clopidogrel until the follow up\n"
            "2. Metoprolol 25 mg twice daily, with meals and some water",
            [0, 60],
        ),
        (
            "A. fever and chills for two weeks, with some sweats at night\n"
            "B. cough without any sputum for two weeks, and some wheezes",
            [0, 61],
        ),
        (
            "He was admitted to the ward of the hospital with chest pain.\n"
            "1. Aspirin 81 mg daily with breakfast, and clopidogrel",
            [0, 61],
        ),
        ("He takes these drugs, at home and here,\n1. aspirin 81 mg daily, with meals", [0, 40]),
        ("He takes the following drugs every day:\n1. aspirin\n2. metoprolol", [0, 40, 51]),
        ("He was admitted today with chest pain\n1. aspirin 81 mg daily\n2. heparin", [0, 38, 61]),
    ],
)
def test_what_begins_like_an_item(text: str, expected: list[int]) -> None:
    assert [start for start, _ in sentences(text)] == expected


def test_genes_are_asked_about_wherever_they_stand() -> None:
    text = "Marker\tResult\nS100\tpositive\nP53\tnegative\n\nAP-1: high.\n"
    for by in ("sentence", "window"):
        asked = " ".join(text[slice(*span)] for span in segments(text, by, short(100)))
        assert {"S100", "P53", "AP-1:"} <= {*asked.split()}


def test_a_heading_ends_at_a_blank_line() -> None:
    text = "HISTORY\n\nChest pain since 3 a.m.\n\nPLAN\n \nDischarge"
    found = [text[slice(*part.span)] for part in parts(text)]
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
    "BP",
    "120/80",
    "130/90",
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
    assert len(list(sentences(rows))) == 4


WORDS = st.sampled_from([*"ab-.: \té𝔸A1|,", "Plan", "PMH:", "   "])
LINES = st.lists(WORDS, max_size=20).map("".join)


@given(st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\u2028", "\x85"])), max_size=6))
def test_line_ends_are_alike(lines: list[tuple[str, str]]) -> None:
    """Also mixed ones; but `\\r` and `\\n` of two line ends together would be one."""
    mixed = "".join(line + end for line, end in lines)
    of_one_kind = [
        "".join(line + end for line, _ in lines) for end in ("\n", "\r\n", "\r", "\u2028")
    ]
    found = [
        [
            (
                view_of(text, part.span).text,
                part.section,
                part.asked and view_of(text, part.asked).text,
            )
            for part in parts(text)
        ]
        for text in (mixed, *of_one_kind)
    ]
    assert found == [found[0]] * 5


# ---- headings and sections


@pytest.mark.parametrize(
    ("line", "heading", "silent"),
    [
        ("HPI:", True, True),
        ("Past Medical History", True, True),
        ("ASSESSMENT AND PLAN", True, True),
        ("ICU progress note, day 3", True, True),
        ("Type 2 diabetes:", True, False),
        ("PE:", True, False),  # an embolism?
        ("COPD", False, False),
        ("OPERATION NOTE 12", True, True),
        ("Post-op", True, True),
        ("plan", False, False),
        ("He was given the following:", False, False),
        ("Allergies: penicillin", False, False),
        ("Collected: today", False, True),
        ("Discharged.", False, True),
        ("and", False, False),
        ("P53", False, False),  # a gene
        ("S100:", True, False),
        ("AP-1 and E2:", True, False),
        ("5S", False, False),
    ],
)
def test_headings(line: str, heading: bool, silent: bool) -> None:
    assert is_heading(line, capitals=False) == heading
    assert says_nothing(line) == silent


def test_a_heading_is_asked_about_unless_it_says_nothing() -> None:
    text = (
        "PLAN:\n\nType 2 diabetes:\nGoes on.\n\nDrug\tDose\nmetformin\t500\n\n12.5\n\n"
        "Allergies: aspirin\nDate: 1/2\nCOPD: stable\n"
    )
    asked = [text[slice(*span)] for span in segments(text, "sentence", short(100))]
    assert asked == ["Type 2 diabetes:", "Goes on.", "metformin", "aspirin", "COPD: stable"]
    asked = [text[slice(*span)] for span in segments(text, "window", short(100))]
    assert asked == [
        "PLAN:\n\nType 2 diabetes:\nGoes on.",
        "metformin",
        "12.5\n\nAllergies: aspirin\nDate: 1/2\nCOPD: stable",
    ]
    assert list(segments("Plan", "sentence", short(100))) == [(0, 4)]


def test_sections() -> None:
    text = (
        "Seen today.\nAllergies: penicillin\n\nIn bed.\n\nHPI:\nNo fever. PMH: gout. Meds: none\n"
        "Results were as follows: good\n\nAlone.\nPlan\nRest.\n\nHuntington disease: a review\n"
    )
    found = [(text[start : start + 4], title) for start, title in sections(text)]
    assert found == [
        *[("Seen", ""), ("Alle", "Allergies"), ("In b", ""), ("HPI:", "HPI"), ("PMH:", "PMH")],
        *[("Meds", "Meds"), ("Alon", "HPI"), ("Plan", "Plan")],
    ]


# ---- tables


CELL = st.text("abé 1", min_size=1, max_size=6).map(str.strip).filter(bool)


@given(st.lists(st.lists(CELL, min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_no_segment_reaches_beyond_a_cell(rows: list[list[str]], data: st.DataObject) -> None:
    gap = data.draw(st.sampled_from(["\t", " \t ", "\t\t"]))
    text = "\n".join(gap.join(row) for row in rows)
    for by in ("sentence", "window"):
        for start, end in segments(text, by, short(100)):
            assert gap not in text[start:end]


def test_a_mark_and_a_tab_are_no_row() -> None:
    text = "1.\tAspirin 81 mg\n2.\tKnee pain\t7/10"
    assert [view_of(text, span).text for span in sentences(text)] == [
        *("1. Aspirin 81 mg", "2. Knee pain", "7/10")
    ]


def test_a_long_line_with_a_gap_is_no_row() -> None:
    text = "Guillain-Barr   syndrome was the commonest identifiable cause of it" + " here" * 30
    assert list(sentences(text)) == [(0, len(text))]


def test_where_no_sentence_ends() -> None:
    text = "1. Sepsis: fluids. Grew Klebsiella spp.; repeat.\n2. Ejection fraction of 58\n% today."
    assert [view_of(text, span).text for span in sentences(text)] == [
        "1. Sepsis: fluids.",
        "Grew Klebsiella spp.; repeat.",
        "2. Ejection fraction of 58 % today.",
    ]


def test_windows_are_sentences_together() -> None:
    lengths = (20, 20, 20, 1, 70, 5)
    text = " ".join(" ".join(["word"] * n) + "." for n in lengths)
    spans = [(m.start(), m.end()) for m in re.finditer(r"[^.]+\.", text)]
    words = [len(text[start:end].split()) for start, end in together(text, spans)]
    assert words == [60, 1, 70, 5]


@pytest.mark.parametrize("items", ["- COPD\n- MI\n- asthma", "1. AF\n2. DVT 2019", "COPD\nCKD 3"])
def test_problems_in_capitals_are_no_headings(items: str) -> None:
    text = f"PMH:\n{items}"
    head, *rest = parts(text)
    assert head.section == "PMH"
    assert [text[slice(*part.span)] for part in rest] == items.split("\n")
    assert {part.section for part in rest} == {"PMH"}


@pytest.mark.parametrize("text", ["Type 2\ndiabetes.", "COPD\nexacerbation today."])
def test_a_line_that_goes_on_is_no_heading(text: str) -> None:
    (part,) = parts(text)
    assert part.asked == (0, len(text))


def test_a_long_line_in_capitals_takes_no_time() -> None:
    """It took a time with the square of its length: minutes for this one."""
    text = "ACGT" * 25_000 + "a"
    assert [part.span for part in parts(text)] == [(0, len(text))]
