"""What a trained model says of itself, and how it wants to be asked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.errors import LabelError, ModelError
from constrained_ner.pipeline.manifest import (
    FAR_BELOW,
    FILE,
    Dataset,
    DevScore,
    Manifest,
    load_manifest,
)
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.task import default_format, task_for
from constrained_ner.training.saving import card

TRAINED = Manifest(
    "base",
    ("multi_term",),
    (
        Dataset(("Disease",), "diseases"),
        Dataset(("Chemical", "Disease"), "cdr", "As in CDR.", {"Disease": "no symptoms"}),
        Dataset(("GENE",), "genes"),
        Dataset(("cell_type", "DNA", "RNA"), "cells"),
    ),
)
SCORED = replace(
    TRAINED,
    formats=("multi_term", "single_tag", "multi_span"),
    dev={
        "multi_term": DevScore(0.5, (0.4, 0.6), 9, 20),
        "single_tag": DevScore(0.75),
        "multi_span": DevScore(0.02),
    },
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
    assert target.of(("Chemical",)).guideline_text == "As in CDR."
    asked = target.of(("Chemical", "Disease"))
    assert asked.guideline_text == "As in CDR.\nDisease: no symptoms"


def test_saved_and_loaded(tmp_path: Path) -> None:
    assert load_manifest(tmp_path) is None
    TRAINED.save(tmp_path)
    assert load_manifest(tmp_path) == TRAINED
    (tmp_path / FILE).write_text("[" * 100_000)
    with pytest.raises(ModelError, match="damaged"):
        load_manifest(tmp_path)
    (tmp_path / FILE).write_text('{"datasets": 3}')
    with pytest.raises(ModelError, match=r"cner\.json: damaged"):
        load_manifest(tmp_path)
    SCORED.save(tmp_path)
    assert load_manifest(tmp_path) == SCORED


def test_a_file_from_before_there_were_scores(tmp_path: Path) -> None:
    values = asdict(TRAINED)
    del values["dev"]
    (tmp_path / FILE).write_text(json.dumps(values))
    assert load_manifest(tmp_path) == TRAINED


@pytest.mark.parametrize("dev", [3, None, {"multi_term": 0.5}, {"multi_term": {"documents": 3}}])
def test_damaged_scores(dev: Any, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({**asdict(TRAINED), "dev": dev}))
    with pytest.raises(ModelError, match=r"cner\.json: damaged"):
        load_manifest(tmp_path)


# ---- in which format, and whether it is to be trusted


@pytest.mark.parametrize(
    ("trained", "name"),
    [
        (None, "multi_term"),
        (SCORED, "single_tag"),
        (replace(SCORED, dev={}), "multi_term"),
        (replace(TRAINED, formats=("multi_tag", "multi_bio")), "multi_tag"),
        (replace(TRAINED, formats=("multi_tag", "multi_term")), "multi_term"),
    ],
)
def test_the_default_format(trained: Manifest | None, name: str) -> None:
    assert default_format(trained) == name
    asked = task_for(trained, ["Disease"])
    assert (asked.format, asked.notes) == (name, ())
    assert task_for(trained, ["Disease"], "conv_term").format == "conv_term"


def test_a_format_far_below_the_best_is_warned_of() -> None:
    assert SCORED.doubtful == ("multi_span",)
    (note,) = task_for(SCORED, format="multi_span").notes
    assert note == (
        "answers in multi_span are not to be trusted: its F1 on dev is 0.02, that of single_tag, "
        "the model's best, 0.75"
    )
    # What is at the bound is not below it.
    assert task_for(SCORED, format="multi_term").notes == ()
    assert SCORED.dev["multi_term"].f1 == FAR_BELOW * SCORED.dev["single_tag"].f1
    # Of what was not measured nothing is said but that it was not learnt.
    assert task_for(SCORED, format="multi_bio").notes == (
        "the model was not trained to write multi_bio, but multi_term, single_tag, multi_span",
    )
    assert SCORED.weights(["multi_term", "multi_span"]) == {"multi_term": 0.5, "multi_span": 0.02}
    nothing = replace(SCORED, dev={name: DevScore(0.0) for name in SCORED.dev})
    assert nothing.weights(["multi_term", "multi_span"]) == {}  # as if they were not measured
    assert nothing.best is None
    assert default_format(nothing) == "multi_term"
    assert nothing.doubtful == tuple(SCORED.dev)
    assert task_for(nothing, format="multi_span").notes == (
        "answers in multi_span are not to be trusted: its F1 on dev is 0.00",
    )


def test_a_data_set_that_is_named_has_its_guidelines() -> None:
    assert task_for(TRAINED, ["Disease"], dataset="cdr").targets == (
        Target(("Disease",), "cdr", *CDR),
    )
    assert task_for(TRAINED, ["Disease"], dataset="mine").targets == (Target(("Disease",), "mine"),)


def test_all_labels_of_a_model_that_names_none() -> None:
    for trained in (None, Manifest("base", ("multi_term",), ())):
        with pytest.raises(LabelError, match="does not say which labels it knows"):
            task_for(trained, "all")


def test_words_are_indexed_where_training_did_it_mostly() -> None:
    for share, name, indexed in (
        (0.8, "multi_span", True),
        (0.5, "multi_bio", True),
        (0.4, "multi_span", False),
        (1.0, "multi_term", False),  # it says what it has found
    ):
        assert task_for(replace(TRAINED, index=share), format=name).index is indexed
    assert not task_for(None, ["Disease"], "multi_span").index


def test_a_label_that_was_never_asked_for_is_warned_of() -> None:
    known = "Disease, Chemical, GENE, cell_type, DNA, RNA"
    assert task_for(TRAINED, ["disease", "Gene"]).notes == ()
    assert task_for(TRAINED, ["diseases", "Dose", "RNA"]).notes == (
        "the model was never asked for diseases (nearest: Disease), Dose in training; it knows "
        f"{known}",
    )
    # Whatever data set the prompt names.
    assert len(task_for(TRAINED, ["Dose"], dataset="genes").notes) == 1
    assert task_for(TRAINED, ["GENE"], dataset="gene").notes == (
        "the model was not trained on a data set 'gene', but on diseases, cdr, genes, cells",
    )
    many = Dataset(tuple(f"type {i}" for i in range(90)), "many")
    (note,) = task_for(replace(TRAINED, datasets=(many,)), ["type 9a"]).notes
    assert note.endswith("type 9a (nearest: type 9) in training; it knows 90 labels")
    both = task_for(SCORED, ["Dose"], "multi_span").notes
    assert len(both) == 2


def test_the_card_tells_the_default_format() -> None:
    assert "\nDefault format: multi_term.\n" in card(TRAINED, {})
    told = card(SCORED, {})
    assert "\nDefault format: single_tag, the best on dev." in told
    assert told.index("| single_tag | 75.0 |") < told.index(
        "| multi_term | 50.0 | 40.0 to 60.0 |  | 9 | 20 |"
    )
    assert "Not to be trusted, for F1 is 0 or far below the best: multi_span.\n" in told
    without = {name: score for name, score in SCORED.dev.items() if name != "multi_span"}
    assert "not to be trusted" not in card(replace(SCORED, dev=without), {})


def test_what_is_asked_for_where_nobody_says() -> None:
    def asked(trained: Manifest, labels: tuple[str, ...] | None = None) -> tuple[set[str], Any]:
        task = task_for(trained, labels)
        assert task.conflicts is not None
        return {label for t in task.targets for label in t.labels}, task.conflicts.order

    every = ("Disease", "Chemical", "GENE", "cell_type", "DNA", "RNA")
    assert asked(TRAINED) == (set(every), every)
    choosy = replace(TRAINED, default_labels=("GENE", "Disease"))
    assert asked(choosy) == ({"GENE", "Disease"}, ("GENE", "Disease"))
    assert asked(choosy, ("RNA",)) == ({"RNA"}, ("RNA",))
    order = ("GENE", "Disease", "Chemical", "cell_type", "DNA", "RNA")
    assert asked(choosy, ("all",)) == (set(every), order)


def test_the_default_model_names_its_labels() -> None:
    trained = load_manifest(DEFAULT_MODEL)
    assert trained is not None
    assert {"Disease", "Chemical"} < set(trained.default_labels) < set(trained.labels)
    assert trained.synonyms
    assert {label for group in trained.synonyms for label in group} <= set(trained.labels)
