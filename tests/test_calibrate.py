"""What a model is told of itself: its F1 on dev, and what its confidences are worth."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.benchmark import calibrate as calibrate_module
from constrained_ner.benchmark import gather as gather_module
from constrained_ner.benchmark.calibrate import _highest, measure
from constrained_ner.benchmark.grid import Cell, CellCosts, CorpusSample, Grid, predictions_of
from constrained_ner.benchmark.results import load_results
from constrained_ner.benchmark.together import Asked, Confidences, documents_of
from constrained_ner.corpora.fingerprints import fingerprint, save_fingerprints
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError
from constrained_ner.evaluation import Counts, strict
from constrained_ner.evaluation.reliability import Judged, calibrate
from constrained_ner.formats import FORMATS, Format, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.agreement import Agreement
from constrained_ner.pipeline.calibration import (
    ENOUGH,
    Calibration,
    Threshold,
    calibration_of,
    least_for,
)
from constrained_ner.pipeline.manifest import Dataset, Manifest, load_manifest
from constrained_ner.pipeline.prediction import Prediction, Reply, warn_of_failures
from constrained_ner.training.saving import card
from constrained_ner.training.scoring import dev_score
from tests.support.commands import cner
from tests.support.strategies import examples
from tests.support.training import LABELS, TEN, write_documents

calibrate_command = sys.modules["constrained_ner.cli.calibrate"]

# ---- fitting ------------------------------------------------------------------------------------


def judged(scores: Sequence[float], right: Sequence[bool], missed: int = 0) -> list[Judged]:
    """A document for each entity, and some whose entity was not found."""
    entity = Entity("Disease", ((0, 1),))
    found = [
        Judged({entity: score}, frozenset([entity]) if is_right else frozenset())
        for score, is_right in zip(scores, right, strict=True)
    ]
    return found + [Judged({}, frozenset([entity]))] * missed


def drawn(probability: Sequence[float], seed: int = 0) -> list[bool]:
    rng = np.random.default_rng(seed)
    return [bool(x) for x in rng.random(len(probability)) < np.array(probability)]


def test_confidences_that_are_too_high_become_probabilities() -> None:
    scores = np.random.default_rng(1).random(3000).tolist()
    found = calibrate(judged(scores, drawn([x**3 for x in scores])), ("multi_tag",), "faithful")
    for score in (0.2, 0.5, 0.8, 0.95):
        assert found.probability(score) == pytest.approx(score**3, abs=0.05)
    assert found.raw_error > 0.2
    assert found.error < 0.03
    assert (found.documents, found.formats, found.level) == (3000, ("multi_tag",), "faithful")


def test_confidences_that_are_right_stay_so() -> None:
    scores = np.random.default_rng(2).random(3000).tolist()
    found = calibrate(judged(scores, drawn(scores)), ("multi_tag",), "faithful")
    assert found.raw_error < 0.03
    for score in (0.2, 0.5, 0.8):
        assert found.probability(score) == pytest.approx(score, abs=0.05)


_FOUND = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.999, 1.0]) | st.floats(0, 1), st.booleans()),
    min_size=ENOUGH,
    max_size=80,
)


@examples(60)
@given(_FOUND, st.integers(0, 9), st.integers(0, 3))
def test_laws_of_calibration(found: list[tuple[float, bool]], missed: int, seed: int) -> None:
    scores, right = zip(*found, strict=True)
    documents = judged(scores, right, missed)
    known = calibrate(documents, ("a", "b"), "faithful", seed)
    grid = sorted([*scores, *np.linspace(0, 1, 21).tolist()])
    worth = [known.probability(x) for x in grid]
    assert worth == sorted(worth)
    assert all(0 < p < 1 for p in worth)
    assert known.thresholds[0].least == 0
    assert 0 <= known.error <= 1
    # A threshold says what is left above it.
    for threshold in known.thresholds:
        counts = Counts()
        for one in documents:
            kept = [e for e, s in one.scores.items() if known.probability(s) >= threshold.least]
            counts += strict("x", list(one.gold), kept)
        assert threshold.entities == counts.predicted
        assert threshold.precision == pytest.approx(counts.scores.precision or 0, abs=1e-4)
        assert threshold.recall == pytest.approx(counts.scores.recall or 0, abs=1e-4)
    assert known.best.f1 == max(one.f1 for one in known.thresholds)
    # What is kept with a model is what it was.
    manifest = Manifest("m", ("a", "b"), (Dataset(("Disease",), "d"),), calibrations=(known,))
    assert calibration_of(manifest.calibrations, ("b", "a"), "faithful") is known
    assert calibration_of(manifest.calibrations, ("a",), "faithful") is None
    assert calibration_of(manifest.calibrations, ("a", "b"), "syntax") is None


def test_too_few_entities() -> None:
    with pytest.raises(InputError, match="multi_tag: 19 entities were found, expected at least 20"):
        calibrate(judged([0.5] * 19, [True] * 19), ("multi_tag",), "faithful")


def test_the_threshold_of_a_precision() -> None:
    thresholds = (
        Threshold(0.0, 400, 0.6, 0.9),
        Threshold(0.5, 200, 0.8, 0.7),
        Threshold(0.8, 100, 0.9, 0.5),
        Threshold(0.9, ENOUGH - 1, 1.0, 0.05),
    )
    known = Calibration(("a",), "faithful", ((0.0, 0.1),), thresholds, 0.0, 0.0, 9, 9, 0)
    assert known.best is thresholds[1]
    assert [least_for(known, p, "a", "faithful") for p in (0.5, 0.7, 0.8, 0.85)] == [
        *(0.0, 0.5, 0.5, 0.8),
    ]
    with pytest.raises(
        InputError, match=r"a precision of 0\.95 cannot be had in a: .* 0\.90, with"
    ):
        least_for(known, 0.95, "a", "faithful")
    with pytest.raises(InputError, match="does not know its precision in a, syntax"):
        least_for(None, 0.95, "a", "syntax")


# ---- choosing formats ---------------------------------------------------------------------------

TEXT = " ".join(f"w{i:02}" for i in range(40))
WORDS = [Entity("Disease", ((4 * i, 4 * i + 3),)) for i in range(40)]


def test_formats_whose_mistakes_differ_are_best_together() -> None:
    """Two are right in the same half of the documents, a third one in the other half."""
    gold = frozenset(WORDS[:20])
    left, right = dict.fromkeys(WORDS[:10], 0.9), dict.fromkeys(WORDS[10:20], 0.8)
    wrong = dict.fromkeys(WORDS[20:24], 0.2)
    document = Document("d", TEXT, tuple(sorted(gold, key=lambda e: e.key)))
    found = {
        "multi_tag": {**left, **wrong},
        "multi_term": left | dict.fromkeys(WORDS[10:11], 0.9),
        "multi_brat": right,
    }
    documents = [
        Asked(replace(document, id=str(i)), frozenset(["Disease"]), found) for i in range(4)
    ]
    trained = Manifest("m", tuple(found), (Dataset(("Disease",), "d"),))
    done = measure(documents, trained, tuple(found), Level.FAITHFUL, most=2)
    assert done.trained.best == "multi_term"
    assert done.trained.best_together(2) == ("multi_term", "multi_brat")
    assert done.trained.best_together(3) == ()
    known = calibration_of(done.trained.calibrations, ("multi_term", "multi_brat"), "faithful")
    assert known is not None
    assert known.best.f1 == pytest.approx(1.0)
    every, kept = done.counts["multi_tag",]
    assert sum(every, Counts()) == Counts(80, 40, 56, 40)
    assert sum(kept, Counts()) == Counts(80, 40, 40, 40)
    # A format that failed at a document says nothing there.
    failed = [replace(documents[0], found={"multi_brat": right}), *documents[1:]]
    again = measure(failed, trained, ("multi_term", "multi_brat"), Level.FAITHFUL, most=2)
    (both,) = (names for names in again.counts if len(names) == 2)
    (first, *_), _ = again.counts[both]
    assert first == Counts(20, 10, 10, 10)


def test_what_was_measured_on_another_sample_is_not_kept() -> None:
    gold = frozenset(WORDS[:20])
    document = Document("d", TEXT, tuple(sorted(gold, key=lambda e: e.key)))
    found = {name: dict.fromkeys(WORDS[:10], 0.9) for name in ("multi_term", "multi_brat")}
    documents = [Asked(replace(document, id=str(i)), frozenset(["Disease"]), found) for i in "abc"]
    trained = Manifest("m", tuple(found), (Dataset(("Disease",), "d"),))
    both = measure(documents, trained, tuple(found), Level.FAITHFUL, most=2)
    assert both.given_up == ()
    assert set(both.trained.best_together(2)) == set(found)
    one = measure(documents[:2], both.trained, ("multi_term",), Level.FAITHFUL, most=2)
    assert set(one.given_up) == {"multi_brat", "multi_term + multi_brat"}
    assert (set(one.trained.dev), one.trained.best_together(2)) == ({"multi_term"}, ())
    # At another level nothing is given up.
    syntax = measure(documents[:2], both.trained, ("multi_term",), Level.SYNTAX, most=2)
    assert syntax.given_up == ()
    assert syntax.trained.dev == both.trained.dev
    assert set(both.trained.calibrations) < set(syntax.trained.calibrations)
    # On the same sample everything stays.
    again = measure(documents, both.trained, ("multi_brat",), Level.FAITHFUL, most=2)
    assert again.given_up == ()
    assert set(again.trained.dev) == set(found)
    assert set(again.trained.best_together(2)) == set(found)


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    """A tiny model, trained on `ten` in two formats, with its card."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    formats = ("multi_term", "multi_tag", "multi_span")
    trained = Manifest("tiny", formats, (Dataset(LABELS, "ten"),), index=1.0)
    trained.save(folder)
    (folder / "README.md").write_text(card(trained, {}))
    return folder


def run(model: Path, *more: str | Path) -> Result:
    corpora = model.parent / "corpora"
    if not corpora.exists():
        (corpora / "ten").mkdir(parents=True)
        write_documents(corpora / "ten" / "dev.jsonl")
    given = ("--model", model, "--corpora", corpora, "-o", model.parent / "answers")
    return cner("calibrate", *given, *more)


def test_a_model_is_told_what_was_measured(model: Path, tmp_path: Path) -> None:
    several = "multi_span,multi_tag,multi_span"  # which are two
    done = run(model, "--documents", "8", "--best", "2", "--together", several)
    assert done.exit_code == 0, done.output
    told = load_manifest(model)
    assert told is not None
    # Where a random model finds enough.
    assert {len(c.formats) for c in told.calibrations} == {1, 2}
    assert set(told.dev) == set(told.formats)
    assert told.best == next(iter(told.dev))
    assert {c.documents for c in told.calibrations} == {8}
    assert (model / "README.md").read_text() == card(told, {})
    (index,) = (tmp_path / "answers").rglob("multi_span+index.faithful.jsonl")  # as it was trained
    counts = []
    with index.open() as file:
        for record in map(json.loads, file):
            gold = next(one for one in TEN if one.id == record["id"])
            found = [
                Entity(e["label"], tuple(map(tuple, e["fragments"]))) for e in record["entities"]
            ]
            counts.append(strict(gold.text, gold.entities, found))
    assert told.dev["multi_span"] == dev_score(counts, Level.FAITHFUL, 0)
    # Given again, it asks the model nothing, and says the same.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "answers").rglob("*.jsonl")}
    again = run(model, "--documents", "8", "--best", "2", "--together", "multi_span,multi_tag")
    assert again.exit_code == 0, again.output
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert load_manifest(model) == told
    # Scores at another level stand beside it, and do not decide what is asked by default.
    syntax = run(model, "--documents", "8", "--best", "2", "--level", "syntax")
    assert syntax.exit_code == 0, syntax.output
    both = load_manifest(model)
    assert both is not None
    assert both.dev == told.dev
    assert both.best_together(2) == told.best_together(2)
    told.save(model)
    # From now on it is asked as is best.
    asked = cner("predict", "-t", "CD28 in flu", "--model", model, "-v", "--format", "best2")
    assert asked.exit_code == 0, asked.output
    # Other weights under the same name are another model.
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0@")
    other = run(model, "--documents", "8")
    assert other.exit_code == 1
    assert "another folder" in other.output


def test_what_several_formats_are_worth_holds_with_their_weights_only() -> None:
    """What they have together is scored by how good each is."""
    document = Document("d", TEXT, tuple(WORDS[:20]))
    found = {
        "multi_tag": dict.fromkeys(WORDS[:15], 0.9),
        "multi_term": dict.fromkeys(WORDS[5:25], 0.8),
    }
    documents = [Asked(replace(document, id=str(i)), frozenset(["Disease"]), found) for i in "abc"]
    trained = Manifest("m", tuple(found), (Dataset(("Disease",), "d"),))
    of_syntax = [replace(one, level=Level.SYNTAX) for one in documents]
    syntax = measure(of_syntax, trained, tuple(found), Level.SYNTAX, most=2).trained
    several = {c.formats for c in syntax.calibrations if len(c.formats) == 2}
    assert len(several) == 1
    # Now each format is as good as on two documents, of which the other format has one alone.
    fewer = [replace(documents[0], found={**found, "multi_tag": {WORDS[0]: 0.9}}), documents[1]]
    after = measure(fewer, syntax, tuple(found), Level.FAITHFUL, most=2)
    assert after.trained.weights(tuple(found)) != syntax.weights(tuple(found))
    kept = [c.formats for c in after.trained.calibrations if c.level == Level.SYNTAX]
    assert sorted(kept) == [("multi_tag",), ("multi_term",)]
    assert [" + ".join(names) for names in several] == [n for n in after.given_up if "+" in n]


def test_results_that_are_nowhere_else_stay_in_a_card(model: Path) -> None:
    """Those of the default model are in its card, and in no file beside it."""
    told = load_manifest(model)
    assert told is not None
    results = {("ten", "multi_tag", "faithful"): Counts(9, 5, 7, 5)}
    (model / "README.md").write_text(card(told, results), encoding="utf-8")
    before = (model / "README.md").read_bytes()
    done = run(model, "--formats", "multi_tag")
    assert done.exit_code == 0, done.output
    assert "left as it is, since it has results that are not in scores.jsonl" in done.output
    assert (model / "README.md").read_bytes() == before


def test_a_label_without_an_answer_has_no_vote() -> None:
    """As it has none in `cner predict`, where one turn of a conversation failed."""
    gene, disease = Entity("Gene", ((0, 4),)), Entity("Disease", ((8, 11),))
    document = Document("d", "BCL6 in flu", (gene, disease))
    labels = ("Gene", "Disease")
    sample = CorpusSample("d", (document,), labels, 1)

    def prediction(format: str, *replies: tuple[tuple[str, ...], Sequence[Entity]]) -> Prediction:
        found = [entity for _, entities in replies for entity in entities]
        made = tuple(
            Reply(
                format,
                asked,
                (0, 11),
                "",
                None,
                tuple(entities),
                (),
                True,
                True,
                False,
                1,
                None,
                (0.8,) * len(entities),
            )
            for asked, entities in replies
        )
        return Prediction(
            "d",
            document.text,
            tuple(found),
            made,
            confidences=dict.fromkeys(found, 0.8),
            formats=(get_format(format),),
            level=Level.FAITHFUL,
        )

    by_format = {
        "multi_term": [prediction("multi_term", (labels, [gene, disease]))],
        "conv_term": [prediction("conv_term", (("Gene",), [gene]))],  # the other turn failed
    }
    (asked,) = documents_of(sample, by_format)
    scores = asked.together([FORMATS[name] for name in by_format], Agreement())
    assert scores == pytest.approx({gene: 0.8, disease: 0.8})


def test_documents_that_could_not_be_answered_are_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind: Any = {"formats": (FORMATS["multi_tag"],), "level": Level.FAITHFUL}
    said = [
        Prediction("d", "", error="document 'd': too long", **kind),
        Prediction("e", "", **kind),
    ]
    warn_of_failures(said, "ten, multi_tag")
    assert caplog.messages == [
        "ten, multi_tag: 1 document could not be answered, and counts as if nothing was found; "
        "the first: document 'd': too long"
    ]
    caplog.clear()
    warn_of_failures(said[1:], "ten, multi_tag")
    assert caplog.messages == []


def test_what_could_not_be_answered_is_told_of_where_it_is_measured(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_failed(folder: Path, cell: Cell) -> list[Prediction]:
        first, *rest = predictions_of(folder, cell)
        return [replace(first, error="document 'd0': too long"), *rest]

    monkeypatch.setattr(calibrate_module, "predictions_of", one_failed)
    done = run(model, "--formats", "multi_tag", "--documents", "2")
    assert done.exit_code == 0, done.output
    assert "ten, multi_tag: 1 document could not be answered" in done.stderr


def test_what_another_process_has_measured_meanwhile_stays(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Calibration(("multi_term",), "syntax", ((0.0, 0.1),), (), 0.0, 0.0, 9, 9, 0)
    answer = calibrate_command.answer

    def and_another(*given: Any, **more: Any) -> None:
        answer(*given, **more)
        told = load_manifest(model)
        assert told is not None
        replace(told, calibrations=(other,)).save(model)

    monkeypatch.setattr(calibrate_command, "answer", and_another)
    done = run(model, "--formats", "multi_tag", "--documents", "2")
    assert done.exit_code == 0, done.output
    told = load_manifest(model)
    assert told is not None
    assert other in told.calibrations


def test_each_corpus_is_put_together_with_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a format cannot say of one corpus, it may be able to say of another one."""
    names = ("multi_term", "multi_brat")
    trained = Manifest("m", names, (Dataset(("Disease",), "a"),))
    known = Calibration(names, "faithful", ((0.0, 0.1),), (Threshold(0, 1, 1, 1),), 0, 0, 1, 1, 0)
    samples = [CorpusSample(name, TEN[:2], LABELS, most) for name, most in (("a", 1), ("b", 3))]
    here: Any = {
        name: [
            SimpleNamespace(
                format=get_format(name, Options(max_fragments=sample.max_fragments)),
                summary=SimpleNamespace(costs=CellCosts(1, 1, 1.0)),
            )
            for sample in samples
        ]
        for name in names
    }
    seen: list[list[int]] = []

    def together(_: Asked, formats: Sequence[Format], agreement: Agreement) -> Confidences:
        seen.append([format.options.max_fragments for format in formats])
        return {}

    monkeypatch.setattr(Asked, "together", together)
    documents = [Asked(d, frozenset(LABELS), {}) for sample in samples for d in sample.documents]
    grid = Grid(("m",), tuple(samples))
    given = ("m", known, trained, grid, here, documents, gather_module.Resampling(9, 0))
    assert len(list(gather_module._put_together(*given))) == 1
    assert seen == [[1, 1]] * 2 + [[3, 3]] * 2


def test_a_benchmark_holds_it_against_text(model: Path, tmp_path: Path) -> None:
    """Here against the same, so that the same must come out."""
    assert run(model, "--documents", "8", "--best", "2").exit_code == 0
    told = load_manifest(model)
    assert told is not None
    data = f"ten={tmp_path / 'corpora' / 'ten' / 'dev.jsonl'}"
    formats = "multi_term,multi_tag,multi_span+index"
    given = ("--levels", "faithful,faithful", "--documents", "8", "--resamples", "20")
    report = tmp_path / "report"
    done = cner(
        *("benchmark", "--model", model, "--data", data, "--formats", formats, *given, "-o", report)
    )
    assert done.exit_code == 0, done.output
    results = load_results(report)
    assert len(results.together) == len(told.calibrations)
    for one in results.together:
        names = [name.partition("+")[0] for name in one.formats]
        known = calibration_of(told.calibrations, names, "faithful")
        assert known is not None
        assert one.least == known.best.least
        assert one.strict.scores.precision == pytest.approx(known.best.precision, abs=1e-4)
        assert one.strict.scores.recall == pytest.approx(known.best.recall, abs=1e-4)
        assert one.raw_error == pytest.approx(known.raw_error, abs=1e-4)
        assert one.calls >= one.calls_of_one > 0
    assert "Formats together" in (report / "report.md").read_text()


@pytest.mark.parametrize("own", [b"# My model\n", b"Mod\xe8le\n"])
def test_a_card_that_somebody_has_written_is_left_alone(model: Path, own: bytes) -> None:
    (model / "README.md").write_bytes(own)
    done = run(model, "--formats", "multi_tag,multi_tag")  # which is one
    assert done.exit_code == 0, done.output
    assert "left as it is" in done.output
    assert (model / "README.md").read_bytes() == own


def test_what_is_wrong_is_said_first(model: Path, tiny_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "corpora" / "ten" / "dev.jsonl"
    for more, message in (
        (["--formats", "multi_xml"], "unknown format 'multi_xml'"),
        (["--formats", "multi_tag", "--together", "multi_tag,multi_term"], "--formats does not"),
        (["--dev", f"ten={data}"], "expected either --corpora or --dev"),
    ):
        done = run(model, *more)
        assert done.exit_code != 0
        assert message in done.output
    given = ("--dev", f"elsewhere={data}", "-o", tmp_path / "answers")
    done = cner("calibrate", "--model", model, *given)
    assert "the model was not trained on elsewhere: expected ten" in done.output
    done = cner("calibrate", "--model", tiny_folder, "--dev", data, "-o", tmp_path / "answers")
    assert "expected a model made by `cner train`" in done.output
    assert not (tmp_path / "answers").exists()


def test_documents_that_the_model_has_seen_are_told_of(model: Path) -> None:
    save_fingerprints(map(fingerprint, TEN[:3]), model)
    done = run(model, "--formats", "multi_term")
    assert done.exit_code == 0, done.output
    assert "the model was trained on 3 of these 10 documents" in done.stderr


def test_nothing_to_find_is_no_score() -> None:
    score = dev_score([Counts()], Level.FAITHFUL, 0)
    assert (score.f1, score.interval, score.entities) == (0.0, None, 0)


def test_entities_of_one_score_stay_or_go_together() -> None:
    """The order in which equal scores are looked at gives no format an advantage."""
    text = "a b " * 10
    places = [((at, at + 1),) for at in range(0, 40, 2)]
    gold = tuple(Entity("x", place) for place in places[::2])
    found = {Entity("x", place): 1.0 for place in places}
    asked = Asked(Document("1", text, gold), frozenset("x"), {"multi_term": found})
    assert _highest([found], [asked]) == pytest.approx(2 * 10 / (20 + 10))


def test_one_file_of_each_data_set(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "corpora" / "ten" / "dev.jsonl"
    given = ("--dev", f"ten={data}", "--dev", f"ten={data}", "-o", tmp_path / "answers")
    done = cner("calibrate", "--model", model, *given)
    assert done.exit_code == 2
    assert "--dev names ten 2 times: expected one file of each" in done.output
