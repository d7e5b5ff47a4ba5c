"""The sentences that ship with the package."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

import constrained_ner
from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity

SAMPLES = Path(constrained_ner.__file__).parent / "samples"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    records = list(read(SAMPLES / "sentences.jsonl"))
    documents = [record for record in records if isinstance(record, Document)]
    assert len(documents) == len(records)
    return documents


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


def test_surfaces_have_no_white_space_at_their_edges(documents: list[Document]) -> None:
    for document in documents:
        assert document.text == document.text.strip()
        for entity in document.entities:
            for start, end in entity.fragments:
                piece = document.text[start:end]
                assert piece == piece.strip(), entity.describe(document.text)


def test_mentions_are_whole_words(documents: list[Document]) -> None:
    for document in documents:
        for entity in document.entities:
            for start, end in entity.fragments:
                edges = document.text[max(0, start - 1) : start], document.text[end : end + 1]
                assert not any(edge.isalnum() for edge in edges), entity.describe(document.text)


def test_readme_says_where_they_come_from() -> None:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert "CC0-1.0" in readme
    assert "Written for this project" in readme
