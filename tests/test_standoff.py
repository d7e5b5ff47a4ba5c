"""Offsets that count other things than characters, surfaces that the text spells otherwise."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from constrained_ner.corpora import write
from constrained_ner.corpora.spelling import spelled_alike
from constrained_ner.documents import Document, Entity, Passage
from tests.test_corpora import mentions, read, write_pair
from tests.test_readers import warnings

# ---- what offsets count

# How far into a text an offset is, given what stands before it.
COUNTINGS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "bytes": lambda before: len(before.encode()),
    "UTF-16 units": lambda before: len(before.encode("utf-16-le")) // 2,
    r"characters, a line break \r\n as one": lambda before: len(before.replace("\r\n", "\n")),
    r"bytes, a line break \r\n as one": lambda before: len(before.replace("\r\n", "\n").encode()),
    r"UTF-16 units, a line break \r\n as one": (
        lambda before: len(before.replace("\r\n", "\n").encode("utf-16-le")) // 2
    ),
}
TITLE = "β 𝛼 knee\r\npain and\r\nearache"
ABSTRACT = "No γ-line,\r\nno aspirin."
TEXT = f"{TITLE}\n{ABSTRACT}"
SURFACES = ["knee\r\npain", "earache", "γ-line", "aspirin"]
Span = tuple[int, int]


def counted(surface: str, text: str, count: Callable[[str], int]) -> Span:
    start = text.index(surface)
    return count(text[:start]), count(text[: start + len(surface)])


Mentions = list[tuple[str, Span]]


@pytest.mark.parametrize("given", ["text", "annotations"])
@pytest.mark.parametrize(
    ("text", "annotations"),
    [
        ("a.txt.gz", "a.ann.gz"),
        ("a.txt", "a.ann.gz"),
        ("a.TXT", "a.ANN"),
        ("a.txt.gz", "a.a1"),
        ("a.TXT", "a.A1"),
    ],
)
def test_a_file_finds_its_partner(text: str, annotations: str, given: str, tmp_path: Path) -> None:
    """Packed or not, whatever the case of their suffixes."""
    for name, content in ((text, "left knee"), (annotations, "T1\tSITE 5 9\tknee\n")):
        data = content.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    documents, errors = read(tmp_path / (text if given == "text" else annotations))
    assert errors == []
    assert [mentions(document) for document in documents] == [[("SITE", "knee")]]


def write_brat(folder: Path, text: str, found: Mentions, abstract: int) -> None:
    rows = [f"T1\tX {start} {end}\t{' '.join(x.split())}\n" for x, (start, end) in found]
    write_pair(folder, "a", text, "".join(rows))


def write_pubtator(folder: Path, text: str, found: Mentions, abstract: int) -> None:
    title, rest = text.split("\n")
    rows = [f"1\t{start}\t{end}\t{surface}\tX\n" for surface, (start, end) in found]
    (folder / "a.pubtator").write_text(f"1|t|{title}\n1|a|{rest}\n{''.join(rows)}")


def write_bioc(folder: Path, text: str, found: Mentions, abstract: int) -> None:
    annotations = [
        {
            "infons": {"type": "X"},
            "text": surface,
            "locations": [{"offset": start, "length": end - start}],
        }
        for surface, (start, end) in found
    ]
    passages = [
        {"offset": 0, "infons": {"type": "title"}, "text": TITLE, "annotations": annotations},
        {"offset": abstract, "infons": {"type": "abstract"}, "text": ABSTRACT},
    ]
    (folder / "a.json").write_text(json.dumps({"id": "1", "infons": {}, "passages": passages}))


def write_bigbio(folder: Path, text: str, found: Mentions, abstract: int) -> None:
    def piece(type: str, text: str, start: int, end: int) -> dict[str, object]:
        return {"type": type, "text": [text], "offsets": [[start, end]]}

    passages = [("title", TITLE, 0, abstract - 1), ("abstract", ABSTRACT, abstract, 0)]
    record = {
        "document_id": "1",
        "passages": [piece(*passage) for passage in passages],
        "entities": [piece("X", surface, *span) for surface, span in found],
    }
    (folder / "a.json").write_text(json.dumps([record]))


WRITERS = {
    "brat": write_brat,
    "pubtator": write_pubtator,
    "bioc_json": write_bioc,
    "bigbio": write_bigbio,
}


@pytest.mark.parametrize(
    ("format", "counting"),
    [
        (format, counting)
        for format in WRITERS
        for counting in COUNTINGS
        # PubTator has no line breaks inside title and abstract
        if not (format == "pubtator" and "line break" in counting)
    ],
)
def test_offsets_are_read_as_what_they_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, format: str, counting: str
) -> None:
    line_break = "  " if format == "pubtator" else "\r\n"
    text = TEXT.replace("\r\n", line_break)
    surfaces = [surface.replace("\r\n", line_break) for surface in SURFACES]
    count = COUNTINGS[counting]
    spans = [counted(surface, text, count) for surface in surfaces]
    WRITERS[format](tmp_path, text, list(zip(surfaces, spans, strict=True)), count(TITLE) + 1)
    with caplog.at_level(logging.INFO):
        (document,), errors = read(tmp_path, format)
    assert (errors, warnings(caplog)) == ([], [])
    assert document.text == text
    assert mentions(document) == [("X", surface) for surface in surfaces]
    if format != "brat":
        assert document.passages == (
            Passage("title", 0, len(TITLE)),
            Passage("abstract", len(TITLE) + 1, len(text)),
        )
    said = [message for message in caplog.messages if "the offsets count" in message]
    if counting == "characters":
        assert said == []
    else:
        assert said[0].endswith(f": the offsets count {counting}: 4 of 4 surfaces fit so")
        assert f": 1 documents whose offsets count {counting}" in caplog.text


def test_other_offsets_are_said_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "Knee pain.\r\nDenies left ear pain.\r\nTook aspirin.\r\n"
    rows = "T1\tX 0 9\tKnee pain\nT2\tX 18 31\tleft ear pain\nT3\tX 38 45\taspirin\n"
    for name in "ab":
        write_pair(tmp_path, name, text, rows)
    write_pair(tmp_path, "c", text, "T1\tX 19 32\tleft ear pain\n")
    with caplog.at_level(logging.INFO):
        documents, _ = read(tmp_path)
    expected = [("X", "Knee pain"), ("X", "left ear pain"), ("X", "aspirin")]
    assert [mentions(document) for document in documents] == [expected, expected, expected[1:2]]
    counting = r"characters, a line break \r\n as one"
    assert caplog.messages == [
        f"{tmp_path}/a.ann:1: the offsets count {counting}: 3 of 3 surfaces fit so",
        f"{tmp_path}: 2 documents whose offsets count {counting}",
    ]


def test_the_reading_that_fits_the_most_mentions_is_that_of_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "αβ fever, cough, pain"
    characters = ["X 3 8\tfever", "X 10 15\tcough", "X 17 21\tpain"]
    bytes_ = ["X 5 10\tfever", "X 12 17\tcough", "X 19 23\tpain"]
    for name, rows, kept in (
        ("a", [characters[0], *bytes_[1:]], ["cough", "pain"]),
        ("b", [bytes_[0], *characters[1:]], ["cough", "pain"]),
        ("c", [characters[0], bytes_[2]], ["fever"]),  # of equally good ones, characters
    ):
        caplog.clear()
        rows = [f"T{number}\t{row}\n" for number, row in enumerate(rows)]
        write_pair(tmp_path / name, name, text, "".join(rows))
        (document,), _ = read(tmp_path / name)
        assert [surface for _, surface in mentions(document)] == kept
        (warning,) = warnings(caplog)
        assert ": skipped X: the " in warning


def test_messages_give_the_offsets_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["X 4 9\tfever", "X 11 16\tcough", "X 11 16\tother", "X 4 99\tfever"]
    content = "".join(f"T{number}\t{row}\n" for number, row in enumerate(rows))
    write_pair(tmp_path, "a", "α: fever, cough", content)
    (document,), _ = read(tmp_path)
    assert mentions(document) == [("X", "fever"), ("X", "cough")]
    assert warnings(caplog) == [
        f"{tmp_path}/a.ann:3: skipped X: the surface 'other' is not what 11 16 give, 'cough'",
        f"{tmp_path}/a.ann:4: skipped X: the offsets 4 99 lie outside the text, which has 16 bytes",
    ]


@pytest.mark.parametrize("suffix", [".ann", ".a1"])
def test_line_breaks_that_were_shortened_after_the_annotation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    before = "Knee\r\npain.\r\nTook aspirin.\r\n"
    surfaces = ["Knee\r\npain", "aspirin"]
    spans = [counted(surface, before, len) for surface in surfaces]
    rows = [
        f"T1\tX {s} {e}\t{' '.join(x.split())}\n" for (s, e), x in zip(spans, surfaces, strict=True)
    ]
    write_pair(tmp_path, "a", before.replace("\r\n", "\n"), None)
    (tmp_path / f"a{suffix}").write_text("".join(rows))
    with caplog.at_level(logging.INFO):
        (document,), _ = read(tmp_path)
    assert mentions(document) == [("X", "Knee\npain"), ("X", "aspirin")]
    counting = r"characters, a line break \n as two"
    assert f": the offsets count {counting}: 2 of 2 surfaces fit so" in caplog.text


@pytest.mark.parametrize("counting", ["characters", "bytes", "UTF-16 units"])
@pytest.mark.parametrize("counted_mark", ["", "\ufeff"])
@pytest.mark.parametrize("suffix", [".ann", ".a1"])
def test_a_byte_order_mark_counts_as_much_as_any_character(
    tmp_path: Path, suffix: str, counted_mark: str, counting: str
) -> None:
    text, count = "α 𝛼 fever", COUNTINGS[counting]
    start, end = counted("fever", counted_mark + text, count)
    write_pair(tmp_path, "a", "\ufeff" + text, None)
    (tmp_path / f"a{suffix}").write_text(f"T1\tX {start} {end}\tfever\n")
    assert read(tmp_path) == ([Document("a", text, (Entity("X", ((4, 9),)),))], [])


def test_a_mention_that_begins_with_the_byte_order_mark(tmp_path: Path) -> None:
    rows = "T1\tX 0 6\t\ufefffever\nT2\tX 8 13\tcough\n"
    write_pair(tmp_path, "a", "\ufefffever, cough", rows)
    (document,), _ = read(tmp_path)
    assert mentions(document) == [("X", "fever"), ("X", "cough")]


# ---- spelling


@pytest.mark.parametrize(
    ("surface", "in_text"),
    [
        ("TNF-a", "TNF-α"),
        ("TNF-alpha", "TNF-α"),
        ("TNF-A", "TNF-Α"),  # a capital Alpha
        ("IL-1b", "IL-1ß"),
        ("lambda phage", "λ phage"),
        ("10 ug", "10 µg"),
        ("SARS CoV 2", "SARS‐CoV‐2"),
        ("SARS-CoV-2", "SARS–CoV−2"),
        ("hypokalaemia", "hypo-\nkalaemia"),
        ("hypokalæmia", "Hypokalaemia"),
        ("Sjogren's", "SJÖGREN’S"),
        ("``atypical'' cell", "“atypical” cell"),
        ("IL - 2 ( p40 )", "IL-2 (p40)"),
        ("Ca2+", "Ca²⁺"),
        ("CD4 +", "CD4+"),
        ("knee\u00adpain", "kneepain"),
        ("İL2", "i̇l2"),
    ],
)
def test_spelled_alike(surface: str, in_text: str) -> None:
    assert spelled_alike(surface, in_text)
    assert spelled_alike(in_text, surface)


@pytest.mark.parametrize(
    ("surface", "in_text"),
    [
        ("Aspirins", "Aspirin"),
        ("left knee", "right knee"),
        ("TNF-b", "TNF-α"),
        ("TNF-beta", "TNF-α"),
        ("CD4+", "CD4-"),
        ("CD4+", "(CD4"),  # offsets that are off by one
        ("IL2-", "IL2"),
        ("knee, pain", "knee pain"),
        ("IL-2", "IL-12"),
    ],
)
def test_not_spelled_alike(surface: str, in_text: str) -> None:
    assert not spelled_alike(surface, in_text)
    assert not spelled_alike(in_text, surface)


def test_surfaces_in_another_spelling_are_kept_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "TNF-α and SARS‐CoV‐2 and IL-1ß were seen."
    rows = "X 0 5\tTNF-a\nX 10 20\tSARS CoV 2\nX 25 30\tIL-1b\nX 0 5\tTNF-b\nX 31 35\twere\n"
    content = "".join(f"T{n}\t{row}\n" for n, row in enumerate(rows.splitlines()))
    write_pair(tmp_path, "a", text, content)
    with caplog.at_level(logging.INFO):
        (document,), _ = read(tmp_path)
    found = [surface for _, surface in mentions(document)]
    assert found == ["TNF-α", "SARS‐CoV‐2", "IL-1ß", "were"]
    assert caplog.messages == [
        f"{tmp_path}/a.ann:4: skipped X: the surface 'TNF-b' is not what 0 5 give, 'TNF-α'",
        f"{tmp_path}: 3 mentions that the text spells otherwise",
    ]


@pytest.mark.parametrize("mark", ["...", "[...]", "(...)", "…", "[…]"])
def test_marks_between_fragments(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mark: str
) -> None:
    text = "embryonic stem (ES) cells, and so on ... to breast and ovarian cancers"
    rows = [
        f"X 0 14;20 25\tembryonic stem {mark} cells",
        f"X 44 50;63 70\tBreast{mark}cancers",
        "X 34 40\ton ...",
        f"X 0 14\tembryonic {mark} stem",  # one fragment has no gap
    ]
    content = "".join(f"T{number}\t{row}\n" for number, row in enumerate(rows))
    write_pair(tmp_path, "a", text, content)
    with caplog.at_level(logging.INFO):
        (document,), _ = read(tmp_path)
    assert [surface for _, surface in mentions(document)] == [
        "embryonic stem cells",
        "on ...",
        "breast cancers",
    ]
    assert caplog.messages[0].startswith(f"{tmp_path}/a.ann:4: skipped X: the surface")
    assert caplog.messages[1:] == [f"{tmp_path}: 2 mentions that the text spells otherwise"]


# ---- surfaces over several lines


def test_white_space_is_no_mention_of_brat(tmp_path: Path) -> None:
    blank = Document("a", "ab\ncd", (Entity("X", ((2, 3),)), Entity("X", ((0, 2),))))
    losses = write([blank], tmp_path / "out")
    assert "1 mentions of white space alone, left out" in "".join(losses.lines())
    rows = (tmp_path / "out" / "a.ann").read_text().splitlines()
    assert [row.split("\t")[2] for row in rows] == ["ab"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\t", " \n\n  "])
def test_brat_divides_what_goes_over_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line_end: str
) -> None:
    """It refuses a surface with a line break or a TAB, and has a fragment for each part."""
    text = f"No left knee{line_end}pain today"
    end = 12 + len(line_end)
    rows = f"T1\tX 3 12;{end} {end + 4}\tleft knee pain\nT2\tX 3 7;{end} {end + 4}\tleft pain\n"
    write_pair(tmp_path, "a", text, rows)
    with caplog.at_level(logging.INFO):
        (document,), _ = read(tmp_path)
    apart = Entity("X", ((3, 7), (end, end + 4)))
    assert set(document.entities) == {Entity("X", ((3, end + 4),)), apart}
    assert "1 mentions over several lines, read in one piece" in caplog.text
    losses = write([document], tmp_path / "out")
    assert losses.lines() == []
    rows = (tmp_path / "out" / "a.ann").read_text()
    assert {row.partition("\t")[2] for row in rows.splitlines()} == {
        f"X 3 12;{end} {end + 4}\tleft knee pain",
        f"X 3 7;{end} {end + 4}\tleft pain",
    }
    divided = Document("b", text, (Entity("X", ((3, 12), (end, end + 4))),))
    losses = write([divided], tmp_path / "other")
    assert "1 fragments of two lines, which are read in one piece" in "".join(losses.lines())
    both = replace(divided, entities=(*divided.entities, Entity("X", ((3, end + 4),))))
    losses = write([both], tmp_path / "both")
    assert "1 mentions that are read as another one is, left out" in "".join(losses.lines())


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_surfaces_over_several_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line_end: str
) -> None:
    """Their later lines begin as rows of other kinds do, and are none."""
    surfaces = [
        "Pain in the\nRight ear",
        "Acute\n\nMyeloid\nNeoplasm",
        "E. coli\n#2 strain",
        "T3 levels\nT4 levels",
        "\nsepsis",
    ]
    text = "; ".join(surfaces).replace("\n", line_end)
    rows = []
    for number, surface in enumerate(surfaces, 1):
        start, end = counted(surface.replace("\n", line_end), text, len)
        rows.append(f"T{number}\tX {start} {end}\t{surface}\nR{number}\tr Arg1:T1 Arg2:T2")
    content = "\n".join([*rows, "T9\tY 0 4\tPain", "what is this", ""])
    write_pair(tmp_path, "a", text, content.replace("\n", line_end))
    with caplog.at_level(logging.INFO):
        (document,), _ = read(tmp_path)
    found = [surface for label, surface in mentions(document) if label == "X"]
    assert found == [surface.replace("\n", line_end).strip() for surface in surfaces]
    assert len(document.entities) == len(surfaces) + 1
    (warning,) = warnings(caplog)
    assert ": skipped 'what is this': expected T<number>" in warning
    assert f"{tmp_path}: 5 rows other than T" in caplog.text


def test_a_row_that_says_too_much_ends_at_the_next_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "T1\tX 0 99\tfever\nT2\tX 7 12\tcough\nT3\tX 7 999999999\tcough\nmore\n"
    write_pair(tmp_path, "a", "fever, cough", rows)
    (document,), _ = read(tmp_path)
    assert mentions(document) == [("X", "cough")]
    assert [warning.split(": ")[0] for warning in warnings(caplog)] == [
        f"{tmp_path}/a.ann:1",
        f"{tmp_path}/a.ann:3",
    ]


def test_only_notes_that_say_a_confidence_are_read_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rows = [
        "#1\tAnnotatorNotes T1\tconfidence 0.25",
        "T1\tDrug 0 7\tAspirin",
        "T2\tDrug 8 14\thelped",
        "#2\tAnnotatorNotes T2\t0.5",
        "#3\tAnnotatorNotes T2\tconfidence 1.5",
        "#4\tAnnotatorNotes T2\tconfidence is low",
    ]
    (tmp_path / "a.txt").write_text("Aspirin helped")
    (tmp_path / "a.ann").write_text("\n".join(rows))
    (document,), _ = read(tmp_path)
    assert document.confidences == {Entity("Drug", ((0, 7),)): 0.25}
    assert len(document.entities) == 2
    assert any("3 rows other than T (relations, events, notes)" in m for m in caplog.messages)


@pytest.mark.parametrize("said", ["high", "", "2", "nan", "-0.1"])
def test_an_infon_that_is_no_probability_is_passed_over(
    tmp_path: Path, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    item = Document("1", "Aspirin helped", (Entity("Drug", ((0, 7),)), Entity("x", ((8, 14),))))
    sure = replace(item, confidences=dict.fromkeys(item.entities, 0.5))
    path = tmp_path / "a.xml"
    write([sure], path)
    path.write_text(path.read_text().replace(">0.5<", f">{said}<", 1))
    (document,), _ = read(path)
    assert document == item
    assert list(document.confidences.values()) == [0.5]
    assert any("1 infons other than the type, passed over" in m for m in caplog.messages)
