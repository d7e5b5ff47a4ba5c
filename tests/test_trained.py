"""What a trained model says of itself, and how it wants to be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from constrained_ner.errors import ModelError
from constrained_ner.prompts import Target
from constrained_ner.trained import FILE, Dataset, Trained, load_trained

TRAINED = Trained(
    "base",
    ("multi_term",),
    (
        Dataset("diseases", ("Disease",)),
        Dataset("cdr", ("Chemical", "Disease"), "As in CDR.", {"Disease": "no symptoms"}),
        Dataset("genes", ("GENE",)),
        Dataset("cells", ("cell_type", "DNA", "RNA")),
    ),
)
CDR = (TRAINED.datasets[1].guideline, TRAINED.datasets[1].guidelines)


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        # Those that have the most of the labels come first; what they have is not asked again.
        (
            None,
            [
                Target(("cell_type", "DNA", "RNA"), "cells"),
                Target(("Chemical", "Disease"), "cdr", *CDR),
                Target(("GENE",), "genes"),
            ],
        ),
        # Of equals the first; the order is the data set's.
        (("Disease",), [Target(("Disease",), "diseases")]),
        (("Disease", "Chemical"), [Target(("Chemical", "Disease"), "cdr", *CDR)]),
        (
            ("RNA", "Chemical"),
            [Target(("Chemical",), "cdr", *CDR), Target(("RNA",), "cells")],
        ),
        # Case is the user's.
        (("Gene",), [Target(("Gene",), "genes")]),
        # What none has is asked for all the same.
        (("Drug", "Gene", "Dose"), [Target(("Gene",), "genes"), Target(("Drug", "Dose"))]),
        (("Drug",), [Target(("Drug",))]),
    ],
)
def test_targets(labels: tuple[str, ...] | None, targets: list[Target]) -> None:
    assert list(TRAINED.targets(labels)) == targets


def test_guidelines_are_those_of_the_labels_that_are_asked_for() -> None:
    (target,) = TRAINED.targets(("Disease", "Chemical"))
    assert target.guideline_for(("Chemical",)) == "As in CDR."
    assert target.guideline_for(("Chemical", "Disease")) == "As in CDR.\nDisease: no symptoms"


def test_saved_and_loaded(tmp_path: Path) -> None:
    assert load_trained(tmp_path) is None
    TRAINED.save(tmp_path)
    assert load_trained(tmp_path) == TRAINED
    (tmp_path / FILE).write_text('{"datasets": 3}')
    with pytest.raises(ModelError, match=r"cner\.json: damaged"):
        load_trained(tmp_path)
