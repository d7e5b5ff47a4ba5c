"""Label sets and slugs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from constrained_ner.errors import LabelError
from constrained_ner.labels import check_labels, slug, unslug
from tests.support.strategies import LABELS, labels, strings


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("cell_type", "cell_type"),
        ("B-x.2", "B-x.2"),
        ("cell type", "cell%20type"),
        ("a/b;c", "a%2Fb%3Bc"),
        ("%20", "%2520"),
        ("é", "%C3%A9"),
        ("<x>", "%3Cx%3E"),
        ("new\nline", "new%0Aline"),
    ],
)
def test_slugs(label: str, expected: str) -> None:
    assert slug(label) == expected
    assert unslug(expected) == label


@given(label=labels())
def test_slugs_are_bare_words_and_reversible(label: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.%-]+", slug(label))
    assert unslug(slug(label)) == label


@given(one=labels(), two=labels())
def test_no_two_labels_share_a_slug(one: str, two: str) -> None:
    assert (slug(one) == slug(two)) == (one == two)


def test_the_slugs_of_look_alikes_differ() -> None:
    look_alikes = ["cell type", "cell%20type", "cell_type", "cell\u00a0type", "e\u0301", "\u00e9"]
    names = {*LABELS, *look_alikes}
    assert len({slug(label) for label in names}) == len(names)


@given(word=strings())
def test_unslug_takes_any_string(word: str) -> None:
    assert isinstance(unslug(word), str)


@pytest.mark.parametrize("word", ["%FF", "C3%97", "%E2%82"])
def test_what_is_no_slug_is_left_alone(word: str) -> None:
    assert unslug(word) == word


@pytest.mark.parametrize(
    ("label_set", "message"),
    [
        ([], "at least one"),
        ([""], "label 1 is ''"),
        (["x", "\t"], "label 2 is"),
        (["x", "y", "x"], "'x' is asked for twice"),
        (["x\ud800"], "lone surrogate"),
        ([" x"], "white space"),
        ("protein", "expected a list of labels"),
    ],
)
def test_label_sets_that_cannot_be_asked_for(label_set: list[str], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        check_labels(label_set)


def test_label_sets() -> None:
    assert check_labels(["x", "X", "x y"]) == ("x", "X", "x y")
    assert check_labels(iter(["x", "y"])) == ("x", "y")
    assert set(check_labels({"x", "y"})) == {"x", "y"}
