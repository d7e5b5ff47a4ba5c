"""The sentences and notes that ship with the package."""

from __future__ import annotations

import json
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest

import constrained_ner
from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity
from constrained_ner.pipeline.segments import parts

SAMPLES = Path(constrained_ner.__file__).parent / "samples"


def documents_of(name: str) -> list[Document]:
    records = list(read(SAMPLES / name))
    documents = [record for record in records if isinstance(record, Document)]
    assert len(documents) == len(records)
    return documents


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return documents_of("sentences.jsonl")


@pytest.fixture(scope="module")
def notes() -> list[Document]:
    return documents_of("notes.jsonl")


@pytest.fixture(scope="module")
def segments() -> list[list[dict[str, Any]]]:
    """The gold segments of the notes."""
    lines = (SAMPLES / "notes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["segments"] for line in lines]


def inside(inner: Entity, outer: Entity) -> bool:
    extents = (inner.start, inner.end), (outer.start, outer.end)
    return outer.start <= inner.start and inner.end <= outer.end and extents[0] != extents[1]


def crossing(left: Entity, right: Entity) -> bool:
    return left.start < right.start < left.end < right.end


def test_ids_are_unique(documents: list[Document]) -> None:
    assert len({document.id for document in documents}) == len(documents) >= 40


def test_there_is_something_of_everything(documents: list[Document]) -> None:
    pairs = [list(permutations(document.entities, 2)) for document in documents]
    assert sum(any(inside(*pair) for pair in some) for some in pairs) >= 8
    assert sum(any(crossing(*pair) for pair in some) for some in pairs) >= 1
    assert sum(any(e.discontinuous for e in document.entities) for document in documents) >= 5
    assert sum(not document.entities for document in documents) >= 2
    labels = {entity.label for document in documents for entity in document.entities}
    assert labels == {"Anatomy", "Chemical", "Disease", "Gene"}


def test_surfaces_have_no_white_space_at_their_edges(
    documents: list[Document], notes: list[Document]
) -> None:
    for document in documents + notes:
        assert document.text == document.text.strip()
        for entity in document.entities:
            for start, end in entity.fragments:
                piece = document.text[start:end]
                assert piece == piece.strip(), entity.describe(document.text)


def test_mentions_are_whole_words(documents: list[Document], notes: list[Document]) -> None:
    for document in documents + notes:
        for entity in document.entities:
            for start, end in entity.fragments:
                edges = document.text[max(0, start - 1) : start], document.text[end : end + 1]
                assert not any(edge.isalnum() for edge in edges), entity.describe(document.text)


# ---- notes


def test_notes_are_of_all_kinds(notes: list[Document]) -> None:
    assert len({note.id for note in notes}) == len(notes) == 14
    assert all(10 <= len(note.text.splitlines()) <= 35 for note in notes)
    assert {e.label for note in notes for e in note.entities} == {
        *("Anatomy", "Chemical", "Disease", "Gene")
    }
    assert sum("\r\n" in note.text for note in notes) == 1
    assert sum("\t" in note.text for note in notes) == 1
    assert sum(note.text.upper() == note.text for note in notes) == 1
    wrapped = [
        note.text[start:end]
        for note in notes
        for entity in note.entities
        for start, end in entity.fragments
        if len(note.text[start:end].splitlines()) > 1
    ]
    assert len(wrapped) >= 10
    assert sum("-\n" in surface for surface in wrapped) >= 3


def test_segments_are_the_whole_note(
    notes: list[Document], segments: list[list[dict[str, Any]]]
) -> None:
    for note, some in zip(notes, segments, strict=True):
        text = note.text
        for one in some:
            piece = text[one["start"] : one["end"]]
            assert piece == piece.strip() != "", note.id
        edges = [(0, 0), *((one["start"], one["end"]) for one in some), (len(text), len(text))]
        for (_, end), (start, _) in pairwise(edges):
            assert end <= start, note.id
            assert not text[end:start].strip(), note.id


def test_no_entity_reaches_beyond_its_segment(
    notes: list[Document], segments: list[list[dict[str, Any]]]
) -> None:
    for note, some in zip(notes, segments, strict=True):
        for entity in note.entities:
            assert any(one["start"] <= entity.start and entity.end <= one["end"] for one in some), (
                entity.describe(note.text)
            )


def test_sections_begin_with_their_titles(
    notes: list[Document], segments: list[list[dict[str, Any]]]
) -> None:
    for note, some in zip(notes, segments, strict=True):
        section: str | None = None
        for one in some:
            before, section = section, one.get("section")
            if section and section != before:
                assert section in note.text[: one["end"]], note.id


def test_notes_are_cut_as_people_would(
    notes: list[Document], segments: list[list[dict[str, Any]]]
) -> None:
    """But for a few boundaries, which benchmarks/splitters.py counts; no entity is lost."""
    for note, some in zip(notes, segments, strict=True):
        found = list(parts(note.text))
        gold = {one["start"] for one in some}
        assert len(gold ^ {part.span[0] for part in found}) <= 3, note.id
        for entity in note.entities:
            around = [p.asked for p in found if p.asked and p.asked[0] <= entity.start < p.asked[1]]
            assert around, entity.describe(note.text)
            assert entity.end <= around[0][1], entity.describe(note.text)


def test_readme_says_where_they_come_from() -> None:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert "CC0-1.0" in readme
    assert "Written for this project" in readme
