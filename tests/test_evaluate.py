"""`cner evaluate`: reading, pairing, reports, health, ceilings, the command."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from constrained_ner.cli import Group
from constrained_ner.cli.evaluate import evaluate as command
from constrained_ner.corpora import OUTPUT_FORMATS
from constrained_ner.corpora import write as write_corpus
from constrained_ner.corpora.jsonl import document_to_json
from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import InputError, LabelError
from constrained_ner.evaluation import Counts, Scores
from constrained_ner.evaluation.ceiling import ceiling
from constrained_ner.evaluation.coverage import Checker
from constrained_ner.evaluation.pairing import DataSet, load, pair, pool
from constrained_ner.evaluation.records import Record, Setting, read_predictions
from constrained_ner.evaluation.report import average_over, compare, evaluate
from constrained_ner.formats import FORMATS, Options
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.prediction import Health
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target

TEXT = "left and right knee pain in colon cancer"
LEFT = Entity("Disease", ((0, 4), (15, 24)))
RIGHT = Entity("Disease", ((9, 24),))
CANCER = Entity("Disease", ((28, 40),))
COLON = Entity("Anatomy", ((28, 33),))
GOLD = (
    Document("d1", TEXT, (LEFT, RIGHT, CANCER, COLON)),
    Document("d2", "no fever | pain", (Entity("Disease", ((3, 8),)),)),
    Document("d3", "nothing"),
)
FOUND = (
    Document("d1", TEXT, (RIGHT, CANCER, COLON)),
    Document("d2", "no fever | pain", (Entity("Symptom|x", ((3, 8),)),)),
    Document("d3", "nothing"),
)


def records(documents: Iterable[Document]) -> list[Record]:
    return [Record(document.id, document) for document in documents]


def answered(document: Document, **changes: Any) -> dict[str, Any]:
    """A record as `cner predict` writes it."""
    answer = {"parses": True, "problems": [], "tokens": 10, "ended": True, "forced": False}
    made_by = {"format": "multi_tag", "level": "faithful", "options": {"max_fragments": 2}}
    return {**document_to_json(document), **made_by, "answers": [answer | changes]}


def write(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    path.write_text(
        "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), "utf-8"
    )
    return path


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    return write(tmp_path / "gold.jsonl", map(document_to_json, GOLD))


@pytest.fixture
def plain_pred(tmp_path: Path) -> Path:
    return write(tmp_path / "plain.jsonl", map(document_to_json, FOUND))


@pytest.fixture
def pred(tmp_path: Path) -> Path:
    problems = [["not in the text", "x"], ["not in the text", "y"], ["duplicate", "z"]]
    lines = [
        answered(FOUND[0], parses=False, problems=problems),
        answered(FOUND[1], ended=False, forced=True),
        {"id": "d3", "error": "too long", "format": "multi_tag", "level": "faithful"},
    ]
    return write(tmp_path / "pred.jsonl", lines)


def cner(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(
        Group(commands=[command]), ["evaluate", *map(str, arguments), "--resamples", "200"]
    )


# ---- reading and pairing


def test_records_of_predict(pred: Path) -> None:
    first, second, third = read_predictions(pred)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.document == FOUND[0]
    problems = Counter({"not in the text": 2, "duplicate": 1})
    assert first.health == Health(1, 0, 0, 0, 10, problems)
    assert first.setting == Setting("multi_tag", Level.FAITHFUL, Options(max_fragments=2))
    assert second.health == Health(1, 1, 1, 1, 10)
    assert third == Record("d3", None, "too long")


def test_predictions_may_be_any_corpus(plain_pred: Path, tmp_path: Path) -> None:
    assert list(read_predictions(plain_pred)) == records(FOUND)
    columns = tmp_path / "pred.tsv"
    columns.write_text("Knee\tB-Disease\npain\tI-Disease\n")
    (record,) = read_predictions(columns)
    assert isinstance(record, Record)
    assert record.document
    assert record.document.entities == (Entity("Disease", ((0, 9),)),)
    assert record.health is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        (json.dumps({"id": "d1", "text": 3, "answers": []}), "expected a string"),
        (json.dumps({"id": "d1", "text": "x", "answers": [{"parses": True}]}), "expected parses"),
        (json.dumps({"id": "d1", "text": "x", "answers": 3}), "expected parses"),
        (json.dumps(answered(GOLD[0]) | {"format": "multi_xml"}), "unknown format 'multi_xml'"),
        (json.dumps(answered(GOLD[0]) | {"options": {"colour": 1}}), "colour"),
    ],
)
def test_a_broken_record_never_loses_the_others(line: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "pred.jsonl", [answered(FOUND[0]), line, answered(FOUND[1])])
    first, broken, third = read_predictions(path)
    assert isinstance(broken, InputError)
    assert message in str(broken)
    assert "pred.jsonl:2:" in str(broken)
    assert isinstance(first, Record)
    assert isinstance(third, Record)


def test_packed_predictions_are_those_inside(gold: Path, pred: Path) -> None:
    packed = pred.with_name("pred.jsonl.gz")
    packed.write_bytes(gzip.compress(pred.read_bytes()))
    one, other = (cner(gold, path, "--output-format", "json") for path in (packed, pred))
    assert one.exit_code == other.exit_code == 0
    assert one.stdout == other.stdout


def test_a_label_that_cannot_be_asked_for_costs_no_score(
    gold: Path, pred: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label = GOLD[0].entities[0].label
    gold.write_text(gold.read_text().replace(f'"{label}"', f'"{label} "', 1))
    done = cner(gold, pred)
    assert done.exit_code == 0, done.output
    assert f"no recall ceiling: label '{label} '" in caplog.text
    assert "strict" in done.stdout


def test_pairs_are_by_id_and_the_kth_goes_with_the_kth() -> None:
    a, b = Document("x", "one"), Document("x", "two")
    data = pair("n", [GOLD[0], a, b], [*records([a, b]), *records(FOUND[:1])])
    assert [r.document for r in data.predictions if r] == [FOUND[0], a, b]
    with pytest.raises(InputError, match=r"'x'.* differ at offset 0: 'one' and 'two'"):
        pair("n", [a, b], records([b, a]))


def test_texts_must_be_equal() -> None:
    with pytest.raises(InputError, match=r"'d3'.* offset 7: '' and ' more': expected the same"):
        pair("n", GOLD, records([Document("d3", "nothing more")]))


def test_missing_failed_and_extra() -> None:
    found = [*records([FOUND[0], Document("d9", "?")]), Record("d2", None, "too long")]
    with pytest.raises(InputError, match="n: 1 predictions have no gold document: 'd9'"):
        pair("n", GOLD, found)
    broken = InputError("bad", "gold.jsonl", 4)
    data = pair("n", [*GOLD, broken], found, ignore_extra=True)
    assert data.missing == ("d3",)
    assert data.failed == ("d2: too long",)
    assert data.extra == ("d9",)
    assert data.broken == (broken,)
    # What failed or is missing counts as empty.
    assert evaluate(data, resamples=10).scores["strict"].counts == Counts(5, 3, 3, 3)
    assert evaluate(pair("n", GOLD, []), resamples=10).scores["strict"].scores.recall == 0
    # A failed record without an id belongs to a record that could not be read.
    assert pair("n", GOLD, [Record("", None, "broken line")]).failed == ("broken line",)


def test_ids_that_are_made_of_names_of_files(gold: Path, tmp_path: Path) -> None:
    """A sentence of `gold.conll` goes with the same one of `pred.conll`."""
    lines = "Left\tO\nknee\tB-A\n\nNo\tO\nfever\tB-A\n"
    one, two = tmp_path / "gold.conll", tmp_path / "pred.conll"
    one.write_text(lines)
    two.write_text(lines.replace("fever\tB-A", "fever\tO"))
    for options in ([], ["--ignore-extra"]):
        result = cner(one, two, "--output-format", "json", *options)
        assert result.exit_code == 0, result.output
        (report,) = json.loads(result.stdout)["data_sets"]
        assert (report["missing"], report["extra"]) == ([], [])
        assert report["scores"]["strict"]["recall"] == 0.5
    two.write_text("No\tO\npain\tO\n")
    result = cner(one, two)
    assert (result.exit_code, "the texts of gold and prediction differ" in result.stderr) == (
        1,
        True,
    )
    # A file that is one document is called after itself.
    brat, other = (tmp_path / name / f"{name}.ann" for name in ("gold", "pred"))
    for path in (brat, other):
        path.parent.mkdir()
        path.with_suffix(".txt").write_text("knee pain")
        path.write_text("T1\tA 0 4\tknee\n")
    result = cner(brat.parent, other.parent, "--output-format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["data_sets"][0]["scores"]["strict"]["f1"] == 1


def test_numbers_pair_only_where_no_id_is_on_both_sides() -> None:
    def numbered(name: str, *numbers: int) -> list[Document]:
        return [Document(f"{name}:{number}", "one text") for number in numbers]

    data = pair("n", numbered("a", 1, 2), records(numbered("b", 2, 3)), ignore_extra=True)
    assert (data.missing, data.extra) == (("a:1",), ("b:3",))
    both = [*numbered("a", 1), *numbered("b", 2)]
    data = pair("n", numbered("a", 1, 2), records(both), ignore_extra=True)
    assert (data.missing, data.extra) == (("a:2",), ("b:2",))
    # Names of several files are told apart by them.
    several = [*numbered("b", 1), *numbered("c", 1)]
    with pytest.raises(InputError, match="2 predictions have no gold document"):
        pair("n", numbered("a", 1, 2), records(several))


def test_nothing_to_compare_is_no_score() -> None:
    """Every prediction left out would be an F1 of 0 without a word."""
    failed = [Record(name, None, "out of memory") for name in "xy"]
    with pytest.raises(InputError, match="2 predictions have no gold document: 'x', 'y'"):
        pair("n", GOLD, failed)
    others = records([Document("x", "knee"), Document("y", "pain")])
    with pytest.raises(InputError, match=r"2 predictions have no gold document: .* the same ids"):
        pair("n", GOLD, others, ignore_extra=True)


def test_a_corpus_may_have_answers_of_its_own(gold: Path, tmp_path: Path) -> None:
    lines = [document_to_json(document) | {"answers": ["yes"]} for document in FOUND]
    pred = write(tmp_path / "own.jsonl", lines)
    assert [type(record) for record in read_predictions(pred)] == [Record] * len(FOUND)


def test_what_is_missing_is_missing_of_a_file(gold: Path, plain_pred: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", [document_to_json(FOUND[0])])
    result = cner(gold, plain_pred, "--against", other)
    assert result.exit_code == 0, result.output
    assert "other.jsonl: no prediction for" in result.stderr


# ---- reports


@pytest.fixture
def data() -> DataSet:
    return pair("n", GOLD, records(FOUND))


def test_scores(data: DataSet) -> None:
    report = evaluate(data, resamples=200)
    assert report.labels == ("Anatomy", "Disease", "Symptom|x")
    strict = report.scores["strict"]
    assert strict.counts == Counts(5, 3, 4, 3)
    assert strict.scores == pytest.approx((0.75, 0.6, 2 / 3))
    assert strict.intervals is not None
    # Anatomy 1 of 1, Disease 2 of 2 predicted and of 4, the third label 0.
    assert report.scores["macro"].scores == pytest.approx((2 / 3, 0.5, (1 + 2 / 3) / 3))
    assert "uniner" not in report.scores
    assert list(report.scores) == [
        *("strict", "text_set", "text_multiset", "overlap", "partial", "macro")
    ]


def test_labels_restrict_both_sides(data: DataSet) -> None:
    report = evaluate(data, ["Disease"], resamples=10, by=["nested"])
    twice = evaluate(data, ["Disease", "Disease"], resamples=10, by=["nested", "label"])
    assert [name for name, _ in twice.breakdowns["label"]] == ["Disease"]
    assert report.scores["strict"].counts == Counts(4, 2, 2, 2)
    assert evaluate(data, ["x"], resamples=10).scores["strict"].scores.f1 is None


def test_breakdowns(data: DataSet) -> None:
    report = evaluate(
        data, by=["label", "nested", "discontinuous", "document"], parity=["gner"], resamples=10
    )
    rows = {
        by: {name: score.counts for name, score in lines} for by, lines in report.breakdowns.items()
    }
    assert rows["label"] == {
        "Anatomy": Counts(1, 1, 1, 1),
        "Disease": Counts(4, 2, 2, 2),
        "Symptom|x": Counts(0, 0, 1, 0),
    }
    # Nested in gold: right knee pain (inside the extent of left ... knee pain) and colon.
    assert rows["nested"] == {
        "plain": Counts(2, 1, 3, 2),
        "nested": Counts(2, 2, 1, 1),
        "delta": None,
    }
    assert rows["discontinuous"]["discontinuous"] == Counts(1, 0, 0, 0)
    assert rows["document"] == {
        "d1": Counts(4, 3, 3, 3),
        "d2": Counts(1, 0, 1, 0),
        "d3": Counts(),
    }
    delta = dict(report.breakdowns["nested"])["delta"].scores
    assert delta.precision == pytest.approx(2 / 3 - 1)
    assert delta.recall == pytest.approx(1 / 2 - 1)
    assert delta.f1 == pytest.approx(4 / 7 - 1)
    assert report.scores["gner"].counts is not None


def test_without_gold_of_a_kind_there_is_no_delta() -> None:
    """Predictions that are nested wrongly make no score of nested entities."""
    text = "right knee pain"
    outer, inner = Entity("A", ((0, 15),)), Entity("A", ((6, 10),))
    flat, nested = Document("d", text, (outer,)), Document("d", text, (outer, inner))
    report = evaluate(
        pair("n", [flat], records([nested])), by=["nested", "discontinuous"], resamples=9
    )
    for kind in ("nested", "discontinuous"):
        assert dict(report.breakdowns[kind])["delta"].scores == Scores(None, None, None)
    report = evaluate(pair("n", [nested], records([flat])), by=["nested"], resamples=9)
    assert dict(report.breakdowns["nested"])["delta"].scores.recall == 1
    # Nor without plain gold entities.
    broken = Entity("A", ((0, 5), (11, 15)))
    rows = evaluate(
        pair("n", [Document("d", text, (broken,))], []), by=["discontinuous"], resamples=9
    )
    assert dict(rows.breakdowns["discontinuous"])["delta"].scores.f1 is None


def test_data_sets_pooled_and_averaged() -> None:
    one = pair("one", GOLD[:1], records(GOLD[:1]))
    two = pair("two", GOLD, [])
    reports = [evaluate(data, resamples=10) for data in (one, two)]
    assert evaluate(pool([one, two]), resamples=10).scores["strict"].counts == Counts(9, 4, 4, 4)
    assert average_over(reports)["strict"].scores == Scores(0.5, 0.5, 0.5)


def test_compare(data: DataSet) -> None:
    same = compare(data, data, resamples=100)
    assert same.differences is not None
    assert [(d.difference, d.p) for d in same.differences] == [(0, 1)] * 3
    better = compare(data, pair("n", GOLD, records(GOLD)), resamples=100)
    assert better.first.f1 == pytest.approx(2 / 3)
    assert better.second.f1 == 1
    assert better.differences is not None
    assert better.differences[2].difference == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="one gold file"):
        compare(data, pair("n", GOLD[:1], []))


# ---- recall ceiling


def test_ceilings() -> None:
    labels = ("Anatomy", "Disease")
    tag = ceiling(GOLD, labels, Setting("multi_tag"))
    assert (tag.entities, tag.expressible, tag.returned) == (5, 4, 4)
    assert tag.dropped == {"discontinuous": 1}
    term = ceiling(GOLD, labels, Setting("single_term"))
    assert (term.entities, term.expressible, term.returned) == (5, 5, 5)
    narrow = ceiling(GOLD, labels, Setting("multi_term", Level.FAITHFUL))
    assert narrow.dropped == {"more than 1 fragments": 1}
    wide = Setting("multi_term", Level.FAITHFUL, Options(max_fragments=2))
    assert ceiling(GOLD, labels, wide).expressible == 5
    # The second mention of a surface reads as the first.
    again = Document("d", "pain and pain", (Entity("Disease", ((9, 13),)),))
    lost = ceiling([again], labels, Setting("multi_term"))
    assert (lost.entities, lost.expressible, lost.returned) == (1, 1, 0)
    with pytest.raises(LabelError, match="white space"):
        ceiling(GOLD, (" x",), Setting("multi_tag"))


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a\r\npain", (2, 7)),
        ("a pain", (1, 6)),
        ("post-\noperative", (5, 15)),
        ("pre-\nop", (0, 5)),
    ],
)
def test_what_no_answer_gives_back_is_not_returned(text: str, span: tuple[int, int]) -> None:
    """A line shows one space of white space, or none: exactly this can be in no answer."""
    found = ceiling([Document("d", text, (Entity("x", (span,)),))], ("x",), Setting("multi_span"))
    assert (found.entities, found.expressible, found.returned) == (1, 0, 0)
    assert found.dropped == {"begins or ends with white space": 1}


@pytest.mark.parametrize("name", ["multi_term", "multi_tag", "multi_span", "single_term"])
@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
def test_ceilings_are_what_check_measures(
    name: str, level: Level, vocabulary: Vocabulary, samples: list[Document]
) -> None:
    labels = tuple(sorted({e.label for document in samples for e in document.entities}))
    report = Checker(FORMATS[name], labels, level, vocabulary).check(samples)
    found = ceiling(samples, labels, Setting(name, level))
    assert (found.entities, found.expressible) == (report.entities, report.expressible)
    assert found.returned == report.expressible - report.lost.total()
    assert found.dropped == report.dropped


def test_the_setting_comes_from_the_records(pred: Path, gold: Path) -> None:
    data = load(gold, pred)
    found = evaluate(data, resamples=10)
    assert found.ceiling is not None
    assert found.ceiling.setting.options == Options(max_fragments=2)
    assert found.ceiling.dropped == {"discontinuous": 1}
    other = evaluate(data, format="multi_brat", resamples=10).ceiling
    assert other is not None
    assert other.setting == Setting("multi_brat", Level.FAITHFUL, Options(max_fragments=2))
    assert other.returned == 5
    # Two levels have no common ceiling, of another format neither.
    free = pred.with_name("free.jsonl")
    free.write_text(pred.read_text().replace("faithful", "free"), "utf-8")
    both = pool([data, load(gold, free)])
    assert evaluate(both, resamples=10).ceiling is None
    assert evaluate(both, format="multi_brat", resamples=10).ceiling is None


def test_the_ceiling_is_that_of_the_parts_that_were_asked_about(tmp_path: Path) -> None:
    """Sentence by sentence: there the second fever is the first of its part."""
    text = "No fever was noted today. Later on a fever came."
    late, across = Entity("Disease", ((37, 42),)), Entity("Disease", ((19, 31),))
    gold = Document("d", text, (late, across))
    whole = answered(Document("d", text))
    parts = [{**whole["answers"][0], "segment": span} for span in ([0, 25], [26, 48])]
    made = whole | {"format": "multi_term", "answers": parts}
    files = write(tmp_path / "gold.jsonl", [document_to_json(gold)]), tmp_path / "pred.jsonl"
    found = evaluate(load(files[0], write(files[1], [made])), resamples=10).ceiling
    assert found is not None
    assert (found.entities, found.expressible, found.returned) == (2, 1, 1)
    assert found.dropped == {"in no part of the text that was asked about": 1}
    # Another format would have been asked about the same parts.
    of_triples = evaluate(load(*files), format="multi_triple", resamples=10).ceiling
    assert of_triples is not None
    assert (of_triples.entities, of_triples.expressible, of_triples.returned) == (2, 1, 1)
    asked_at_once = evaluate(load(files[0], write(files[1], [whole])), resamples=10).ceiling
    assert asked_at_once is not None
    assert (asked_at_once.entities, asked_at_once.expressible) == (2, 2)


@pytest.mark.parametrize(
    "change",
    [{"answers": ["x"]}, {"format": 5}, {"format": ["multi_term"]}, {"options": "x"}],
)
def test_records_that_are_none_of_ours_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    record = answered(Document("1", "a b"))
    path = write(tmp_path / "pred.jsonl", [record | change, record])
    bad, good = read_predictions(path)
    assert isinstance(bad, InputError)
    assert str(bad).startswith(f"{path}:1: the record has answers, but not as `cner predict`")
    assert isinstance(good, Record)


@pytest.mark.parametrize("kind", ["pubtator", "conll", "bioc_json"])
def test_shards_of_other_formats(gold: Path, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / ".shards.jsonl").write_text(json.dumps({"kind": kind, "shard size": 2}) + "\n")
    suffix = OUTPUT_FORMATS[kind].suffixes[0]
    flat = [
        replace(one, entities=tuple(e for e in one.entities if not e.discontinuous)[:1])
        for one in GOLD
    ]
    for number, part in enumerate((flat[:2], flat[2:])):
        write_corpus(part, folder / f"part-{number:05}{suffix}", kind)
    found = [one for one in read_predictions(folder) if isinstance(one, Record)]
    assert [one.document.entities for one in found if one.document] == [d.entities for d in flat]
    with pytest.raises(InputError, match=f"holds shards of {kind}"):
        list(read_predictions(folder, "brat"))


@pytest.mark.parametrize(
    ("journal", "message"),
    [('{"kind": "parquet"}', "holds shards of parquet, which are not read"), ("[", "does not say")],
)
def test_shards_that_are_not_read(journal: str, message: str, tmp_path: Path) -> None:
    (tmp_path / ".shards.jsonl").write_text(journal)
    with pytest.raises(InputError, match=message):
        list(read_predictions(tmp_path))


def test_several_settings_have_no_ceiling(gold: Path, tmp_path: Path) -> None:
    lines = [answered(FOUND[0]), answered(FOUND[1]) | {"level": "syntax"}]
    data = load(gold, write(tmp_path / "pred.jsonl", lines))
    assert evaluate(data, resamples=10).ceiling is None


@pytest.mark.parametrize("name", ["single_term", "multi_tag"])
def test_what_predict_writes_is_read(
    name: str, tiny_model: LoadedModel, samples: list[Document], tmp_path: Path
) -> None:
    documents = [*samples[:2], Document("blank", " ")]
    predictor = Predictor(
        tiny_model,
        FORMATS[name],
        [Target(("Disease", "Anatomy"))],
        Level.FREE,
        batch_size=2,
        max_new_tokens=40,
    )
    predictions = list(predictor.predict(documents))
    path = write(tmp_path / "pred.jsonl", (p.to_json() for p in predictions))
    found = list(read_predictions(path))
    assert [r.document and r.document.entities for r in found if isinstance(r, Record)] == [
        *(p.entities for p in predictions[:2]),
        None,
    ]
    report = evaluate(pair("samples", documents, found), resamples=10)
    replies = [reply for p in predictions for reply in p.replies]
    assert report.health is not None
    assert report.health.answers == len(replies)
    assert report.health.parsed == sum(reply.parses for reply in replies)
    assert report.health.cut_off == sum(not reply.ended for reply in replies)
    assert report.health.tokens == sum(reply.tokens for reply in replies)
    assert report.health.problems.total() == sum(len(reply.problems) for reply in replies)
    assert report.ceiling is not None
    assert report.ceiling.setting == Setting(name, Level.FREE, Options())
    assert len(report.data.failed) == 1
    assert predictions[2].to_json()["format"] == name


# ---- the command


def test_table(gold: Path, pred: Path) -> None:
    result = cner(gold, pred, "--by", "nested", "--by", "label", "--metric", "uniner")
    assert result.exit_code == 0, result.output
    lines = [[cell.strip() for cell in x.split("│")[1:-1]] for x in result.stdout.splitlines()]
    rows = {cells[0]: cells[1:] for cells in lines if cells}
    assert rows["strict"][:3] == ["75.00", "60.00", "66.67"]
    assert rows["strict"][4:] == ["5", "3", "4", "3"]
    assert rows["delta"][2] == "-42.86"
    assert rows["Symptom|x"][0] == "0.00"
    assert rows["uniner"][4:] == ["5", "3", "4", "3"]
    assert rows["parsed strictly"] == ["1", "50.00 %"]
    assert rows["cut off by the budget"] == ["1", "50.00 %"]
    assert rows["problem: not in the text"] == ["2", ""]
    assert rows["problem: unknown label"] == ["0", ""]
    assert rows["can be written"] == ["4", "80.00 %"]
    assert "failed prediction: d3: too long" in result.stderr


def test_markdown(gold: Path, plain_pred: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    options = ["--output-format", "markdown", "--by", "label", "--by", "document"]
    result = cner(gold, plain_pred, *options, "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    written = out.read_text("utf-8")
    assert "| strict | 75.00 | 60.00 | 66.67 | " in written
    assert "| Symptom\\|x | 0.00 |" in written
    assert "| d3 | - | - | - |" in written
    assert "no health" in written
    assert "no recall ceiling" in written
    tables = [line for line in written.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {10}


def test_json(gold: Path, pred: Path, plain_pred: Path) -> None:
    result = cner(
        *(gold, pred, "--output-format", "json", "--also", gold, plain_pred),
        *("--by", "document", "--metric", "gner", "--metric", "instructuie"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    first, second = report["data_sets"]
    assert first["scores"]["strict"]["f1"] == pytest.approx(2 / 3)
    assert set(first["scores"]["strict"]["intervals"]) == {"precision", "recall", "f1"}
    assert first["health"]["problems"]["duplicate"] == 1
    assert first["ceiling"]["setting"]["format"] == "multi_tag"
    assert first["failed"] == ["d3: too long"]
    assert second["health"] is None
    assert [row["name"] for row in first["breakdowns"]["document"]] == ["d1", "d2", "d3"]
    assert report["pooled"]["scores"]["strict"]["gold"] == 10
    assert report["mean"]["gner"]["f1"] == first["scores"]["gner"]["f1"]
    assert "counts" not in report["mean"]["gner"]
    assert report["resamples"] == 200


def test_also_is_shown(gold: Path, pred: Path) -> None:
    result = cner(gold, pred, "--also", gold, gold)
    assert result.exit_code == 0, result.output
    assert "pooled" in result.stdout
    assert "mean over data sets" in result.stdout
    assert "83.33" in result.stdout  # the mean of 66.67 and 100


def test_against(gold: Path, pred: Path, plain_pred: Path) -> None:
    result = cner(gold, pred, "--against", gold)
    assert result.exit_code == 0, result.output
    assert "gold.jsonl against pred.jsonl" in result.stdout
    assert "+33.33" in result.stdout
    result = cner(gold, pred, "--against", pred, "--output-format", "json")
    f1 = json.loads(result.stdout)["comparison"]["differences"]["f1"]
    assert f1 == {"difference": 0, "interval": [0, 0], "p": 1}
    result = cner(gold, pred, "--against", pred, "--also", gold, pred)
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_labels_and_format(gold: Path, plain_pred: Path) -> None:
    result = cner(gold, plain_pred, "--labels", "Disease", "--format", "multi_bio")
    assert result.exit_code == 0, result.output
    assert "recall ceiling of multi_bio, free level" in result.stdout
    assert "not: discontinuous" in result.stdout
    assert "Anatomy" not in result.stdout


def test_a_label_that_no_entity_has_is_named(gold: Path, plain_pred: Path) -> None:
    result = cner(gold, plain_pred, "--labels", "Nope")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: no entity has the label 'Nope': there are ")


def test_broken_records_are_counted_and_exit_1(gold: Path, pred: Path) -> None:
    gold.write_text(gold.read_text() + "{\n")
    pred.write_text(pred.read_text() + "[]\n")
    result = cner(gold, pred)
    assert result.exit_code == 1
    assert "gold.jsonl:4" in result.stderr
    assert "pred.jsonl:4" in result.stderr
    assert "unreadable: 2" in result.stdout


def test_missing_and_extra_predictions(gold: Path, plain_pred: Path) -> None:
    lines = plain_pred.read_text().splitlines()
    plain_pred.write_text("\n".join([*lines[:2], lines[2].replace("d3", "d4")]))
    result = cner(gold, plain_pred)
    assert result.exit_code == 1
    assert "1 predictions have no gold document: 'd4'" in result.stderr
    assert "--ignore-extra" in result.stderr
    result = cner(gold, plain_pred, "--ignore-extra")
    assert result.exit_code == 0, result.output
    assert "no prediction for 1: 'd3'" in result.stderr
    assert "left out without gold: 'd4'" in result.stderr


def test_other_texts_are_refused(gold: Path, plain_pred: Path) -> None:
    plain_pred.write_text(plain_pred.read_text().replace("no fever", "No fever"))
    result = cner(gold, plain_pred)
    assert result.exit_code == 1
    assert "document 'd2'" in result.stderr
    assert "offset 0" in result.stderr
    assert "Traceback" not in result.output


def test_no_entities_at_all(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl", map(document_to_json, GOLD[2:]))
    result = cner(empty, empty, "--against", empty, "--by", "nested", "--format", "multi_tag")
    assert result.exit_code == 0, result.output
    result = cner(empty, empty, "--output-format", "json", "--metric", "instructuie")
    scores = json.loads(result.stdout)["data_sets"][0]["scores"]
    assert scores["strict"]["f1"] is None
    assert scores["instructuie"]["f1"] == 1


def test_what_is_read_is_not_replaced(gold: Path, plain_pred: Path) -> None:
    before = gold.read_bytes()
    done = cner(gold, plain_pred, "-o", gold, "--overwrite")
    assert done.exit_code != 0
    assert "is the input, too" in done.output
    assert gold.read_bytes() == before


def test_a_table_has_no_colours(
    gold: Path, plain_pred: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cner(gold, plain_pred, "-o", tmp_path / "out.txt").exit_code == 0
    assert "\x1b" not in (tmp_path / "out.txt").read_text()


def test_labels_do_not_control_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    label = "\x1b]0;x\x07\x92"
    write(path, [{"id": "1", "text": "a", "entities": [{"label": label, "fragments": [[0, 1]]}]}])
    done = cner(path, path, "--by", "label")
    assert "\x1b" not in done.output
    assert "\N{SYMBOL FOR ESCAPE}" in done.output
    done = cner(path, path, "--by", "label", "--output-format", "json")
    assert json.dumps(label, ensure_ascii=False) in done.stdout
