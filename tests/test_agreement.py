"""What becomes of answers in several formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.documents import Document, Entity
from constrained_ner.engines.base import Answer
from constrained_ner.engines.models import LoadedModel
from constrained_ner.errors import DecodingError, InputError, UnknownNameError
from constrained_ner.evaluation.pairing import load
from constrained_ner.evaluation.report import evaluate
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.agreement import CUT, Agreement, Ballot
from constrained_ner.pipeline.calibration import Calibration, Threshold
from constrained_ner.pipeline.conflicts import Conflicts
from constrained_ner.pipeline.extractor import Extractor
from constrained_ner.pipeline.manifest import Dataset, DevScore, Manifest, load_manifest
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.pipeline.predictor import Predictor, Turn
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.task import COMBINATIONS, task_for
from tests.conftest import SAMPLES
from tests.support.commands import cner
from tests.support.strategies import examples

TEXT = "A colon cancer cell line."
LABELS = ("Disease", "Anatomy")
COLON, CANCER, COLON_CANCER = ((2, 7),), ((8, 14),), ((2, 14),)
SPLIT = ((2, 7), (15, 19))
CELL = ((15, 19),)
SENTENCES = SAMPLES / "sentences.jsonl"
THREE = ("multi_tag", "multi_term", "single_term")


def ballot(
    format: str,
    *found: tuple[str, tuple[tuple[int, int], ...], float],
    labels: tuple[str, ...] = LABELS,
    segment: tuple[int, int] = (0, len(TEXT)),
) -> Ballot:
    confidences = {Entity(label, fragments): sure for label, fragments, sure in found}
    return Ballot(get_format(format), frozenset(labels), segment, confidences)


def test_silence_counts_where_the_level_lets_a_format_write_it() -> None:
    """Words are whole at the faithful level only."""
    inside = Entity("Disease", ((3, 7),))  # of a word
    for level, score in ((Level.FAITHFUL, 0.8), (Level.SYNTAX, 0.4)):
        one, other = ballot("multi_tag", ("Disease", inside.fragments, 0.8)), ballot("multi_term")
        found = settled(replace(one, level=level), replace(other, level=level))
        assert found == {inside: pytest.approx(score)}


def entity(fragments: tuple[tuple[int, int], ...], label: str = "Disease") -> Entity:
    return Entity(label, fragments)


def settled(*ballots: Ballot, **how: Any) -> dict[Entity, float]:
    agreement = Agreement(**how)
    return {one.entity: one.score for one in agreement.settled(ballots, TEXT)}


def test_the_score_is_the_weighted_mean_of_the_confidences() -> None:
    ballots = (
        ballot("multi_tag", ("Disease", COLON_CANCER, 0.9)),
        ballot("multi_term", ("Disease", COLON_CANCER, 0.6)),
        ballot("single_term"),
    )
    entity = Entity("Disease", COLON_CANCER)
    assert settled(*ballots)[entity] == pytest.approx(0.5)
    weights = {"multi_tag": 0.8, "multi_term": 0.4, "single_term": 0.4}
    assert settled(*ballots, weights=weights)[entity] == pytest.approx(0.96 / 1.6)
    (one,) = Agreement(weights).settled(ballots, TEXT)
    assert one.by_format == {"multi_tag": 0.9, "multi_term": 0.6, "single_term": 0.0}


def test_a_vote_takes_what_more_than_half_have() -> None:
    sure, unsure = ("Disease", COLON_CANCER, 0.9), ("Disease", COLON_CANCER, 0.01)
    two = (ballot("multi_tag", unsure), ballot("multi_term", unsure))
    assert settled(*two, ballot("single_term"), vote=True) == {
        Entity("Disease", COLON_CANCER): pytest.approx(2 / 3)
    }
    assert settled(ballot("multi_tag", sure), ballot("multi_term"), vote=True) == {}


def test_of_entities_that_overlap_the_best_stays() -> None:
    found = settled(
        ballot("multi_tag", ("Disease", COLON_CANCER, 0.9)),
        ballot("multi_term", ("Disease", CANCER, 0.8)),
        ballot("multi_brat", ("Anatomy", COLON_CANCER, 0.7)),
    )
    assert set(found) == {Entity("Disease", COLON_CANCER)}


def test_entities_that_one_format_has_together_stay_together() -> None:
    found = settled(
        ballot("multi_tag", ("Disease", COLON_CANCER, 0.9), ("Anatomy", COLON, 0.3)),
        ballot("multi_term", ("Disease", COLON_CANCER, 0.9)),
    )
    assert set(found) == {Entity("Disease", COLON_CANCER), Entity("Anatomy", COLON)}


@pytest.mark.parametrize(
    "abstaining",
    [
        ballot("multi_tag"),  # a tag cannot be discontinuous
        ballot("multi_brat", labels=("Anatomy",)),  # it was not asked for the label
        ballot("multi_brat", segment=(0, 10)),  # nor about the place
        replace(ballot("multi_brat"), format=get_format("multi_brat", Options(max_fragments=1))),
    ],
)
def test_what_a_format_cannot_say_it_does_not_deny(abstaining: Ballot) -> None:
    brat = get_format("multi_triple", Options(max_fragments=2))
    says = replace(ballot("multi_triple", ("Disease", SPLIT, 0.8)), format=brat)
    assert settled(says, abstaining) == {Entity("Disease", SPLIT): pytest.approx(0.8)}


_SPANS = st.sampled_from([COLON, CANCER, COLON_CANCER, ((2, 19),), ((15, 19),), ((8, 19),)])
_BALLOTS = st.lists(
    st.dictionaries(
        st.builds(Entity, st.sampled_from(LABELS), _SPANS), st.floats(0, 1), max_size=5
    ),
    min_size=1,
    max_size=4,
)


@examples(60)
@given(_BALLOTS, st.booleans())
def test_laws_of_agreement(found: list[dict[Entity, float]], vote: bool) -> None:
    names = ("multi_tag", "multi_term", "single_term", "multi_brat")
    ballots = [
        Ballot(get_format(name), frozenset(LABELS), (0, len(TEXT)), each)
        for name, each in zip(names, found, strict=False)
    ]
    agreement = Agreement(vote=vote)
    kept = agreement.settled(ballots, TEXT)
    for one in kept:
        having = [ballot for ballot in ballots if one.entity in ballot.confidences]
        assert having
        share = [1.0 if vote else each.confidences[one.entity] for each in having]
        assert one.score == pytest.approx(sum(share) / len(ballots))
        for other in kept:
            if one is not other and one.entity.overlaps(other.entity):
                assert any({one.entity, other.entity} <= set(b.confidences) for b in ballots)
    for order in permutations(ballots):
        again = agreement.settled(order, TEXT)
        assert [one.entity for one in again] == [one.entity for one in kept]
    if len(ballots) == 1:
        assert {one.entity: one.score for one in kept} == (
            dict.fromkeys(found[0], 1.0) if vote else found[0]
        )


def test_parts_of_a_text_are_settled_by_themselves() -> None:
    whole = ("Disease", COLON_CANCER, 0.9)
    (start, end), *_ = COLON_CANCER
    here = ballot("multi_tag", whole, segment=(0, end))
    beside = ballot("multi_term", whole, segment=(0, start + 1))  # it overlaps with the first
    apart = ballot("multi_term", segment=(end, len(TEXT)))
    assert settled(here, beside, apart) == settled(apart, here, beside)
    assert settled(here, apart) == settled(here)
    assert settled(here, beside) == settled(here)  # whose segment does not have all of it


# ---- in predictions -----------------------------------------------------------------------------


def predictor(model: LoadedModel, *names: str, **given: Any) -> Predictor:
    options: dict[str, Any] = {"record": True, "max_new_tokens": 120, **given}
    formats = [FORMATS[name] for name in names]
    return Predictor(model, formats, [Target(LABELS)], **options)


@pytest.mark.parametrize("vote", [True, False])
def test_answers_without_probabilities_are_put_together_like_others(
    tiny_model: LoadedModel, vote: bool
) -> None:
    """Nothing comes back that the formats have not together."""
    three = ("multi_term", "multi_triple", "multi_tag")
    level = Level.FREE if vote else Level.FAITHFUL
    asking = predictor(tiny_model, *three, level=level, agreement=Agreement(vote=vote))
    document = Document("1", TEXT)
    both, one = (entity(COLON_CANCER), entity(CELL)), (entity(COLON_CANCER),)
    turns = asking.turns(document)
    for turn in turns:
        found = both if turn.format.name == "multi_term" else one
        answer = turn.format.write(TEXT, found, turn.labels)
        turn.outcome = asking.read(turn, Answer(answer, (1,), ended=True))
    expected = one if vote else both  # a third of the formats: enough without a vote
    assert set(asking.prediction(document, turns).entities) == set(expected)


def test_votes_for_a_synonym_are_kept_with_its_name(tiny_model: LoadedModel) -> None:
    """Those of the surer one where both labels were found."""
    same = Conflicts(synonyms=(LABELS,), order=LABELS)
    asking = predictor(tiny_model, "multi_term", "multi_tag", conflicts=same, min_confidence=0.0)
    document = Document("1", TEXT)
    first, second = (Entity(label, COLON_CANCER) for label in LABELS[:2])
    turns = asking.turns(document)
    for turn in turns:
        found = [second] if turn.format.name == "multi_term" else [first, second]
        answer = turn.format.write(TEXT, found, turn.labels)
        turn.outcome = asking.read(turn, Answer(answer, (1,), ended=True))
    prediction = asking.prediction(document, turns)
    assert prediction.entities == (first,)
    assert prediction.by_format == {first: {"multi_term": 1.0, "multi_tag": 1.0}}


def test_a_prediction_in_several_formats_is_the_agreement_of_each(
    tiny_model: LoadedModel, samples: list[Document]
) -> None:
    together = list(predictor(tiny_model, *THREE, min_confidence=0.0).predict(samples[:3]))
    alone = {name: list(predictor(tiny_model, name).predict(samples[:3])) for name in THREE}
    some = 0
    for i, prediction in enumerate(together):
        assert prediction.error is None
        for name in THREE:
            answers = [reply.answer for reply in prediction.replies if reply.format == name]
            assert answers == [reply.answer for reply in alone[name][i].replies]
        ballots = [
            Ballot(FORMATS[name], frozenset(LABELS), (0, len(prediction.text)), one.confidences)
            for name, one in ((name, each[i]) for name, each in alone.items())
        ]
        expected = Agreement().settled(ballots, prediction.text)
        assert set(prediction.entities) == {agreed.entity for agreed in expected}
        for agreed in expected:
            sure = prediction.confidences[agreed.entity]
            assert sure == pytest.approx(agreed.score, abs=1e-4)
            assert set(prediction.by_format[agreed.entity]) == set(THREE)
        some += len(expected)
        record = json.loads(json.dumps(prediction.to_json()))
        assert record["format"] == ",".join(THREE)
        assert {answer["format"] for answer in record["answers"]} == set(THREE)
        again = Prediction.from_json(record)
        assert json.loads(json.dumps(again.to_json())) == record
    assert some


def test_the_least_score_of_an_agreement(tiny_model: LoadedModel, samples: list[Document]) -> None:
    (everything,) = predictor(tiny_model, *THREE, min_confidence=0.0).predict(samples[:1])
    (by_default,) = predictor(tiny_model, *THREE).predict(samples[:1])
    assert by_default.to_json() == everything.at_least(CUT).to_json()
    (voted,) = predictor(tiny_model, *THREE, agreement=Agreement(vote=True)).predict(samples[:1])
    assert all(c > 0.5 for c in voted.confidences.values())


def test_formats_that_fail_are_said_and_the_others_go_on(
    tiny_model: LoadedModel, samples: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[..., object] = Predictor.read

    def broken(self: Predictor, turn: Turn, answer: object) -> object:
        if turn.format.name == "multi_tag":
            return DecodingError("broken")
        return read(self, turn, answer)

    monkeypatch.setattr(Predictor, "read", broken)
    (prediction,) = predictor(tiny_model, *THREE).predict(samples[:1])
    assert prediction.error is None
    assert prediction.left_out == (((0, len(prediction.text)), "multi_tag: broken"),)
    assert all("multi_tag" not in votes for votes in prediction.by_format.values())
    (alone,) = predictor(tiny_model, "multi_tag").predict(samples[:1])
    assert alone.error == "broken"


@pytest.mark.parametrize("segment", ["none", "sentence"])
def test_a_label_that_fails_costs_no_other_its_answer(
    segment: str, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[..., object] = Predictor.read

    def broken(self: Predictor, turn: Turn, answer: object) -> object:
        return DecodingError("broken") if turn.labels == ("Gene",) else read(self, turn, answer)

    monkeypatch.setattr(Predictor, "read", broken)
    for name in ("single_term", "conv_term"):
        predictor = Predictor(
            tiny_model, get_format(name), [Target(("Disease", "Gene"))], segment=segment
        )
        (prediction,) = predictor.predict([Document("d", "No knee pain here.")])
        assert prediction.error is None
        assert [reply.labels for reply in prediction.replies] == [("Disease",)]
        assert prediction.left_out == (((0, 18), "Gene: broken"),)


def test_what_cannot_be_put_together(tiny_model: LoadedModel) -> None:
    with pytest.raises(InputError, match="no format"):
        predictor(tiny_model)
    with pytest.raises(InputError, match="expected each once"):
        predictor(tiny_model, "multi_tag", "multi_tag")
    for how in ({"level": Level.FREE}, {"record": False}):
        with pytest.raises(InputError, match=r"needs confidences: .* or a vote"):
            predictor(tiny_model, *THREE, **how)
        predictor(tiny_model, *THREE, agreement=Agreement(vote=True), **how)
    with pytest.raises(InputError, match="does not know its precision in multi_tag,multi_term"):
        predictor(tiny_model, *THREE, precision=0.9)


# ---- what a model knows of it -------------------------------------------------------------------


def calibration(*formats: str, f1: float = 0.5) -> Calibration:
    threshold = Threshold(0.25, 30, f1, f1)
    return Calibration(formats, "faithful", ((0.0, 0.0), (1.0, 0.5)), (threshold,), 0, 0, 9, 40, 0)


KNOWING = Manifest(
    "tiny",
    ("multi_term", "multi_tag", "single_term"),
    (Dataset(LABELS, "ten"),),
    dev={"multi_term": DevScore(0.5), "multi_tag": DevScore(0.6), "single_term": DevScore(0.4)},
    calibrations=(
        calibration("multi_tag"),
        calibration("multi_tag", "single_term", f1=0.6),
        calibration("multi_tag", "multi_term", f1=0.7),
        calibration("multi_tag", "multi_term", "single_term"),
    ),
)


def test_the_best_formats_of_a_model(tmp_path: Path) -> None:
    KNOWING.save(tmp_path)
    task = task_for(KNOWING, format="best2")
    assert task.format == "multi_tag,multi_term"
    assert task.agreement == Agreement({"multi_tag": 0.6, "multi_term": 0.5})
    assert task.calibration(Level.FAITHFUL) == KNOWING.calibrations[2]
    assert task.calibration(Level.SYNTAX) is None
    # In any order, and each format once.
    named = task_for(KNOWING, format="single_term, multi_tag,best2", combine="agreement")
    assert named.format == "single_term,multi_tag,multi_term"
    assert named.calibration(Level.FAITHFUL) == KNOWING.calibrations[3]
    vote = task_for(KNOWING, format="best3", combine="vote")
    assert vote.agreement.vote
    assert vote.calibration(Level.FAITHFUL) is None
    # Weights are of all formats, or of none.
    assert task_for(KNOWING, format="multi_tag,multi_bio").agreement == Agreement()
    with pytest.raises(UnknownNameError, match=r"its best4, .*expected best2 or best3"):
        task_for(KNOWING, format="best4")
    with pytest.raises(UnknownNameError, match="expected the names of formats"):
        task_for(None, ["Disease"], format="best3")
    with pytest.raises(UnknownNameError, match="unknown way to combine 'sum'"):
        task_for(KNOWING, combine="sum")


def test_confidences_of_a_model_that_knows_itself_are_probabilities(
    tiny_folder: Path, tmp_path: Path, samples: list[Document]
) -> None:
    (tmp_path / "model").symlink_to(tiny_folder)
    extractor = Extractor(tmp_path / "model")
    extractor.manifest = KNOWING
    given = {"format": "multi_tag", "max_new_tokens": 120}
    plain = extractor.extract(samples[0], calibration=None, **given)
    told = extractor.extract(samples[0], min_confidence=0.0, **given)
    assert told.calibrated
    assert "calibrated" not in plain.to_record()
    assert plain.confidences
    for entity, confidence in plain.confidences.items():
        assert told.confidences[entity] == pytest.approx(confidence / 2)
    kept = extractor.extract(samples[0], **given)
    assert kept.to_json() == told.at_least(0.25).to_json()
    precise = extractor.extract(samples[0], precision=0.5, **given)
    assert precise.to_json() == kept.to_json()
    with pytest.raises(
        InputError, match=r"a precision of 0\.9 cannot be had in multi_tag: .* 0.50"
    ):
        extractor.extract(samples[0], precision=0.9, **given)


def test_the_command(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    model = ("--model", tiny_folder, "--labels", "Disease,Anatomy", "--limit", "2")
    given = ("predict", SENTENCES, *model, "--max-new-tokens", "120")
    done = cner(*given, "--format", "multi_tag,multi_term", "-o", out)
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert {record["format"] for record in records} == {"multi_tag,multi_term"}
    data = load(SENTENCES, out)
    report = evaluate(replace(data, gold=data.gold[:2], predictions=data.predictions[:2]))
    assert report.ceiling is not None
    assert report.health is not None
    assert report.health.answers == sum(len(record["answers"]) for record in records)
    for more, message in (
        (["--format", "multi_tag,multi_xml"], "unknown format 'multi_xml'"),
        (["--format", "best3"], "does not know its best3"),
        (["--format", "multi_tag", "--combine", "vote"], "--combine is for several formats"),
        (["--format", "multi_tag,multi_term", "--free"], "expected --combine vote"),
        (["--precision", "0.9"], "does not know its precision in multi_term, faithful"),
        (["--precision", "0.9", "--min-confidence", "0.1"], "exclude each other"),
        (["--min-confidence", "nan"], "'nan' is no number"),
    ):
        done = cner(*given, *more)
        assert done.exit_code != 0
        assert message in done.output
    done = cner(*given, "--format", "multi_tag,multi_term", "--free", "--combine", "vote")
    assert done.exit_code == 0, done.output


def test_a_format_has_no_say_about_what_it_was_not_shown() -> None:
    """A word that is broken at the end of a line is one word to the model."""
    text = "pre-\noperative pain"
    entity = Entity("Disease", ((5, 14),))
    ballots = [
        Ballot(get_format(name), frozenset(LABELS), (0, len(text)), found)
        for name, found in (("multi_term", {entity: 0.8}), ("multi_bio", {}))
    ]
    (agreed,) = Agreement().settled(ballots, text)
    assert agreed.by_format == {"multi_term": 0.8}


def test_a_tag_that_would_run_into_the_text_is_not_denied() -> None:
    text, place = "We use @foo now.", ((8, 11),)
    ballots = [
        Ballot(get_format(name), frozenset(["GENE"]), (0, len(text)), found)
        for name, found in (("multi_term", {Entity("GENE", place): 0.9}), ("single_tag", {}))
    ]
    found = Agreement(vote=True).settled(ballots, text)
    assert [(one.entity.fragments, one.by_format) for one in found] == [
        (place, {"multi_term": 0.9})
    ]


def test_a_single_format_is_what_it_is_however_several_are_put_together() -> None:
    trained = load_manifest(DEFAULT_MODEL)
    one, vote = (task_for(trained, format="multi_term", combine=way) for way in COMBINATIONS)
    assert one.calibration(Level.FAITHFUL) == vote.calibration(Level.FAITHFUL) is not None
    vote.check_precision(Level.FAITHFUL, 0.8)
    several = task_for(trained, format="multi_term,multi_tag", combine="vote")
    with pytest.raises(InputError, match="a vote has no probabilities"):
        several.check_precision(Level.FAITHFUL, 0.8)
