"""Entities, documents and text order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.documents import Document, Entity, paper_order, text_order
from constrained_ner.errors import InputError
from tests.support.strategies import documents


@pytest.mark.parametrize(
    ("label", "fragments"),
    [
        ("", ((0, 1),)),
        ("x", ()),
        ("x", ((1, 1),)),
        ("x", ((2, 1),)),
        ("x", ((-1, 1),)),
        ("x", ((0, 2), (1, 3))),
        ("x", ((4, 5), (0, 1))),
    ],
)
def test_impossible_entities(label: str, fragments: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(InputError):
        Entity(label, fragments)


def test_an_entity() -> None:
    text = "left and right knee pain"
    entity = Entity("finding", ((0, 4), (15, 24)))
    assert (entity.start, entity.end, entity.discontinuous) == (0, 24, True)
    assert entity.surface(text) == "left knee pain"
    assert entity.describe(text) == "finding 0-4;15-24 'left knee pain'"
    assert not Entity("finding", ((0, 4),)).discontinuous
    assert Entity("x", ((0, 1), (1, 2))).surface("ab") == "a b"


def test_text_order() -> None:
    expected = (
        Entity("b", ((0, 9),)),
        Entity("a", ((0, 5),)),
        Entity("b", ((0, 5),)),
        Entity("a", ((0, 1),)),
        Entity("a", ((3, 4), (6, 7))),
        Entity("a", ((3, 4),)),
    )
    assert text_order([*reversed(expected), *expected]) == expected


def test_paper_order_ignores_case() -> None:
    text = "b A a"
    letters = [Entity("x", ((i, i + 1),)) for i in (0, 2, 4)]
    assert [e.surface(text) for e in paper_order(letters, text)] == ["A", "a", "b"]


@pytest.mark.parametrize(
    ("text", "entities", "message"),
    [
        ("a\ud800", (), r"lone surrogate .* at offset 1"),
        ("abc", (Entity("x", ((0, 4),)),), r"ends after the text, which has 3 characters"),
    ],
)
def test_impossible_documents(text: str, entities: tuple[Entity, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Document("7", text, entities)


@given(document=documents(["x", "y"]), order=st.randoms(use_true_random=False))
def test_documents_keep_entities_in_text_order_once(document: Document, order: object) -> None:
    shuffled = list(document.entities) * 2
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = Document(document.id, document.text, tuple(shuffled))
    assert again == document
    assert list(again.entities) == sorted(again.entities, key=lambda e: e.key)
