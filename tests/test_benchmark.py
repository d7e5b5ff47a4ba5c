"""The grid of the benchmark: its cells, how it goes on, and what it makes of the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from constrained_ner.benchmark import grid as grid_module
from constrained_ner.benchmark.blocks import number
from constrained_ner.benchmark.gather import gather
from constrained_ner.benchmark.grid import (
    AnsweredCell,
    Cell,
    CellCosts,
    CorpusSample,
    Grid,
    Variant,
    load_sample,
    options_of,
    run,
    target_of,
    variants_of,
)
from constrained_ner.benchmark.tables.cost import costs
from constrained_ner.benchmark.view import View
from constrained_ner.cli.benchmark import check_folder
from constrained_ner.corpora.jsonl import document_to_json
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError, ModelError, UnknownNameError
from constrained_ner.evaluation.pairing import load
from constrained_ner.evaluation.report import evaluate
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.locks import held
from constrained_ner.pipeline.manifest import Dataset, Manifest
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.view import in_one_line
from tests.support.commands import cner
from tests.support.training import LABELS, TEN, silent, write_documents

DATA = CorpusSample("ten", TEN, LABELS, 1)
MODEL = "tiny"


def write_cell(
    folder: Path, cell: Cell, data: CorpusSample, answers: dict[str, str], **more: dict[str, Any]
) -> None:
    """A cell with these answers, by document; those that are not given are empty."""
    format = get_format(cell.variant.format, options_of(cell.variant, data))
    (folder / cell.answers).parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for document in data.documents:
        replies = []
        entities: list[Entity] = []
        for labels in format.questions(data.labels):
            answer = answers.get(document.id, format.write(document.text, (), labels))
            read = format.decode(answer, document.text, labels, strict=False)
            entities += read.entities
            replies.append(
                {
                    "labels": labels,
                    "answer": answer,
                    "parses": not read.problems,
                    "problems": [[problem.kind, problem.detail] for problem in read.problems],
                    "tokens": len(answer),
                    "ended": True,
                    "forced": False,
                    **more.get(document.id, {}),
                }
            )
        found = [{"label": e.label, "fragments": e.fragments} for e in entities]
        lines.append(
            {
                "id": document.id,
                "text": document.text,
                "format": cell.variant.format,
                "level": cell.level,
                "options": {},
                "entities": found,
                "answers": replies,
            }
        )
    (folder / cell.answers).write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    made = Grid((cell.model,), (data,)).fingerprint(cell)
    summary = AnsweredCell(cell, len(data.documents), CellCosts(1, 2, 3.0), fingerprint=made)
    (folder / cell.summary).write_text(json.dumps(summary.to_json()))


def results_of(grid: Grid, folder: Path, **options: Any) -> dict[str, Any]:
    """Results as their file has them."""
    return gather(grid, folder, resamples=50, **options).to_json()


def grid_of(
    variants: str, levels: tuple[Level, ...] = (Level.FREE,), data: CorpusSample = DATA
) -> Grid:
    return Grid((MODEL,), (data,), variants_of(variants.split(",")), levels)


def gold(document: Document, format: str) -> str:
    return get_format(format).encode(document, LABELS, Level.FREE)


# ---- variants and data --------------------------------------------------------------------------


def test_variants() -> None:
    assert [str(variant) for variant in variants_of(["all"])] == list(FORMATS)
    assert [str(variant) for variant in variants_of(["multi_term", "spans", "multi_term"])] == [
        "multi_term",
        "multi_bio+index",
        "multi_span+index",
        "single_span+index",
        "multi_brat+offsets",
    ]
    assert Variant.parse("multi_brat+offsets") == Variant("multi_brat", "offsets")
    assert options_of(Variant("multi_brat", "offsets"), DATA).anchor == "offsets"
    for name in ("multi_term+index", "multi_brat+index", "multi_span+"):
        if name.endswith("+"):
            assert str(Variant.parse(name)) == "multi_span"
            continue
        with pytest.raises(UnknownNameError, match=r"multi_span\+index"):
            Variant.parse(name)
    with pytest.raises(UnknownNameError, match="multi_words"):
        variants_of(["multi_words"])


def test_data(tmp_path: Path) -> None:
    folder = tmp_path / "ncbi"
    folder.mkdir()
    path = write_documents(folder / "test.jsonl")
    with path.open("a") as file:
        file.write("{broken\n")
    data, broken = load_sample(path)
    assert data.name == "ncbi"
    assert data.labels == LABELS
    assert [error.line for error in broken] == [11]
    assert {document.id for document in data.documents} == {document.id for document in TEN}
    lengths = [len(document.text) for document in data.documents]
    assert lengths == sorted(lengths)
    some, _ = load_sample(path, "other", 3, seed=1)
    again, _ = load_sample(path, "other", 3, seed=1)
    others, _ = load_sample(path, "other", 3, seed=2)
    assert some == again != others
    assert (some.name, len(some.documents)) == ("other", 3)
    # Labels are those of all documents, whichever were drawn.
    assert all(load_sample(path, "x", 1, seed=seed)[0].labels == LABELS for seed in range(5))
    with pytest.raises(InputError, match="no document has an entity"):
        load_sample(write_documents(tmp_path / "none.jsonl", [TEN[4]]))


def test_a_data_set_that_was_trained_on_is_asked_for_in_the_same_way() -> None:
    trained = Manifest("base", (), (Dataset(LABELS, "ten", "As they are.", {"Gene": "no RNA"}),))
    assert target_of(trained, DATA) == Target(LABELS, "ten", "As they are.", {"Gene": "no RNA"})
    assert target_of(trained, replace(DATA, name="x")) == Target(LABELS, "x")
    assert target_of(None, DATA) == Target(LABELS, "ten")


def test_answers_to_other_guidelines_are_others(tmp_path: Path) -> None:
    made = []
    for guideline in ("Diseases only.", "Symptoms, too."):
        folder = tmp_path / guideline[:3]
        folder.mkdir()
        Manifest("base", (), (Dataset(LABELS, "ten", guideline),)).save(folder)
        grid = replace(grid_of("multi_term"), sources={MODEL: str(folder)})
        assert grid.target(grid.cells()[0]).guideline == guideline
        made.append(grid.fingerprint(grid.cells()[0]))
    assert made[0] != made[1]


def test_a_run_that_was_stopped_before_its_first_answer_goes_on(tmp_path: Path) -> None:
    (tmp_path / "out" / "model" / "data").mkdir(parents=True)
    check_folder(tmp_path / "out")
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(InputError, match="expected a new or an empty folder"):
        check_folder(tmp_path / "out")


# ---- the run ------------------------------------------------------------------------------------


def test_two_processes_do_not_answer_one_grid(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(InputError, match="another run is writing it"):
        run(Grid(("nowhere",), ()), tmp_path, silent)
    run(Grid(("nowhere",), ()), tmp_path, silent)


def test_a_grid_goes_on_cell_by_cell(tiny_folder: Path, tmp_path: Path) -> None:
    data = replace(DATA, documents=TEN[:3])
    grid = Grid(
        (MODEL,),
        (data,),
        variants_of(["multi_term", "single_term"]),
        max_new_tokens=30,
        sources={MODEL: str(tiny_folder)},
    )
    seen: list[str] = []

    def noted(items: Iterable[Any], what: str) -> Iterator[Any]:
        seen.append(what)
        return iter(items)

    run(grid, tmp_path, noted)
    assert seen == [
        f"ten, {name}, {level}" for name in ("multi_term", "single_term") for level in Level
    ]
    whole = results_of(grid, tmp_path)
    assert not whole["missing"]
    # What a cell says is what `cner evaluate` says of its file.
    for found in whole["cells"]:
        cell = Cell(MODEL, "ten", Variant(found["variant"]), Level(found["level"]))
        path = tmp_path / cell.answers
        paired = load(write_documents(tmp_path / "gold.jsonl", data.documents), path)
        scores = evaluate(paired, LABELS, resamples=50).to_json()["scores"]
        assert found["scores"] == scores
        assert found["costs"]["tokens"] == found["health"]["tokens"]
        assert found["costs"]["calls"] > 0
        assert found["costs"]["seconds"] > found["costs"]["mask_seconds"] >= 0
        if cell.level is Level.FREE:
            assert found["allowed_mass"] is None
            assert found["costs"]["mask_seconds"] == 0
        else:
            assert found["health"]["parsed"] == found["health"]["answers"]
            assert 0 <= found["allowed_mass"]["least"] <= found["allowed_mass"]["mean"] <= 1
            assert found["costs"]["mask_seconds"] > 0
            assert found["costs"]["grammar_seconds"] > 0
    # A cell is done once its summary is there; the others are left alone.
    cell = Cell(MODEL, "ten", Variant("single_term"), Level.FREE)
    (tmp_path / cell.summary).unlink()
    assert results_of(grid, tmp_path)["missing"] == [cell.to_json()]
    seen.clear()
    run(grid, tmp_path, noted)
    assert seen == ["ten, single_term, free"]
    again = results_of(grid, tmp_path)
    for before, after in zip(whole["cells"], again["cells"], strict=True):
        assert before["scores"] == after["scores"]
    # A file that is damaged is named.
    kept = (tmp_path / cell.answers).read_text().splitlines(keepends=True)
    (tmp_path / cell.answers).write_text("".join(kept[1:]))
    with pytest.raises(InputError, match=rf"{len(kept) - 1} answers: expected {len(kept)}; "):
        results_of(grid, tmp_path)
    (tmp_path / cell.summary).write_text("{}")
    with pytest.raises(InputError, match=rf"{re.escape(str(cell.summary))}: not what a benchmark"):
        run(grid, tmp_path, silent)


def test_cells_side_by_side(tiny_folder: Path, tmp_path: Path) -> None:
    grid = replace(
        grid_of("multi_term,single_term", (Level.FAITHFUL,), replace(DATA, documents=TEN[:2])),
        sources={MODEL: str(tiny_folder)},
    )
    seen: list[str] = []

    def noted(items: Iterable[Any], what: str) -> Iterator[Any]:
        seen.append(what)
        return iter(items)

    run(grid, tmp_path / "one", silent)
    run(grid, tmp_path / "two", noted, processes=2)
    assert sorted(seen) == ["ten, multi_term, faithful", "ten, single_term, faithful"]
    for cell in grid.cells():
        name = cell.answers
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not results_of(grid, tmp_path / "two")["missing"]
    # What goes wrong in a process is heard of.
    missing = replace(grid, sources={MODEL: str(tmp_path / "nowhere")})
    with pytest.raises(ModelError, match="nowhere"):
        run(missing, tmp_path / "three", silent, processes=2)


def test_energy_is_of_the_whole_machine(tmp_path: Path) -> None:
    data = write_documents(tmp_path / "ten.jsonl")
    several = ("--energy", "FRA", "--processes", "2", "-o", tmp_path / "out")
    assert "expected --processes 1" in cner("benchmark", "--data", data, *several).output


def test_energy(tiny_folder: Path, tmp_path: Path) -> None:
    grid = replace(
        grid_of("multi_term", (Level.FREE,), data=replace(DATA, documents=TEN[:2])),
        max_new_tokens=30,
        country="FRA",
        sources={MODEL: str(tiny_folder)},
    )
    run(grid, tmp_path, silent)
    results = gather(grid, tmp_path, resamples=50)
    (cell,) = results.to_json()["cells"]
    assert cell["costs"]["kwh"] > 0
    assert cell["costs"]["co2_kg"] > 0
    table = costs(View(results), View(results).groups[0])
    ((*_, joules),) = table.rows
    assert joules.text == number(cell["costs"]["kwh"] * 3.6e6 / 2, 1)
    with pytest.raises(UnknownNameError, match="unknown country 'fr'"):
        run(replace(grid, country="fr"), tmp_path, silent)


def test_no_model_is_loaded_where_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_of("multi_term")
    for cell in grid.cells():
        write_cell(tmp_path, cell, DATA, {})
    monkeypatch.setattr(grid_module, "_answer", None)
    run(grid, tmp_path, silent)


@pytest.mark.parametrize(
    "change",
    [
        {"data": (replace(DATA, documents=TEN[:9]),)},
        {"data": (replace(DATA, labels=("Gene",)),)},
        {"max_new_tokens": 7},
        {"batch_size": 3},
    ],
)
def test_answers_that_the_grid_would_not_get_again_are_not_kept(
    change: dict[str, Any], tmp_path: Path
) -> None:
    grid = grid_of("multi_term")
    (cell,) = grid.cells()
    write_cell(tmp_path, cell, DATA, {})
    before = {path: path.read_bytes() for path in tmp_path.rglob("multi_term*")}
    with pytest.raises(InputError, match=r"multi_term.free.json: of answers about other documents"):
        run(replace(grid, **change), tmp_path, silent)
    assert {path: path.read_bytes() for path in tmp_path.rglob("multi_term*")} == before


def test_names_of_models_are_no_paths(tmp_path: Path) -> None:
    cell = Cell("../../up/model:1", "a b/c", Variant("multi_term"), Level.FREE)
    assert not cell.answers.is_absolute()
    assert ".." not in cell.answers.parts
    assert (tmp_path / cell.answers).resolve().is_relative_to(tmp_path.resolve())


# ---- results ------------------------------------------------------------------------------------


def test_free_answers_are_read_in_two_ways(tmp_path: Path) -> None:
    grid = grid_of("multi_term")
    (cell,) = grid.cells()
    right = {document.id: gold(document, "multi_term") for document in TEN}
    write_cell(tmp_path, cell, DATA, right)
    (found,) = results_of(grid, tmp_path)["cells"]
    assert found["scores"]["strict"]["f1"] == found["read_strictly"]["f1"] == 1.0
    # The last bracket is missing: what is there can be read, but it does not parse.
    open_ended = {id: answer.removesuffix("]") for id, answer in right.items()}
    write_cell(tmp_path, cell, DATA, open_ended)
    (found,) = results_of(grid, tmp_path)["cells"]
    assert found["scores"]["strict"]["f1"] == 1.0
    assert found["read_strictly"]["f1"] == 0.0
    assert found["health"]["parsed"] == 0


def test_differences_to_free_answers(tmp_path: Path) -> None:
    grid = grid_of("multi_term", (Level.FREE, Level.FAITHFUL))
    free, masked = grid.cells()
    half = {document.id: gold(document, "multi_term") for document in TEN[:5]}
    whole = {document.id: gold(document, "multi_term") for document in TEN}
    write_cell(tmp_path, free, DATA, half)
    write_cell(tmp_path, masked, DATA, whole)
    results = results_of(grid, tmp_path)
    first, second = results["cells"]
    assert "against_free" not in first
    difference = second["against_free"]["f1"]["difference"]
    assert difference == pytest.approx(1 - first["scores"]["strict"]["f1"])
    # One data set: pooled, it is the same.
    pooled_free, pooled_masked = results["pooled"]
    assert pooled_free["strict"] == first["scores"]["strict"]
    assert pooled_masked["against_free"] == second["against_free"]
    # Pooled scores are of all data sets, or there are none.
    more = replace(grid, data=(DATA, replace(DATA, name="more")))
    assert results_of(more, tmp_path)["pooled"] == []


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (("a",), ("gold", "gold")),
        (("a",), ("BC5 CDR", "bc5-cdr")),
        (("runs/a", "../runs/a"), ("x",)),
    ],
)
def test_what_has_one_folder_has_one_name(models: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Else the second would be answered into the files of the first."""
    data = tuple(replace(DATA, name=name) for name in names)
    with pytest.raises(InputError, match=r"have one folder, .*expected names \(NAME=PATH\)"):
        Grid(models, data)


@pytest.mark.parametrize(
    "name", ["multi_span", "multi_tag", "multi_brat", "multi_term", "multi_bio"]
)
def test_answers_are_read_anew_as_they_were_read(name: str, tmp_path: Path) -> None:
    """Of the line that the model was shown, not of the text with its line breaks."""
    text = "Colon cancer in rats.\nOral  metformin\r\nhelped colon cancer"
    spans = [("Disease", 0, 12), ("Chemical", 28, 37), ("Disease", 46, 58)]
    document = Document("1", text, tuple(Entity(label, ((s, e),)) for label, s, e in spans))
    data = CorpusSample("wrapped", (document,), ("Chemical", "Disease"), 1)
    grid = Grid((MODEL,), (data,), (Variant(name),), (Level.FREE,))
    (cell,) = grid.cells()
    view = in_one_line(document)
    right = FORMATS[name].encode(view, data.labels)
    write_cell(tmp_path, cell, replace(data, documents=(view,)), {"1": right})
    path = tmp_path / cell.answers
    record = json.loads(path.read_text())
    path.write_text(
        json.dumps(record | {"text": text, "entities": document_to_json(document)["entities"]})
    )
    summary = path.with_suffix(".json")
    made = AnsweredCell.from_json(json.loads(summary.read_text()))
    made = replace(made, fingerprint=grid.fingerprint(cell))
    summary.write_text(json.dumps(made.to_json()))
    (found,) = results_of(grid, tmp_path)["cells"]
    assert found["scores"]["strict"]["f1"] == found["read_strictly"]["f1"] == 1.0


def test_gold_entities_are_those_of_labels_that_are_asked_for(tmp_path: Path) -> None:
    grid = Grid((MODEL,), (replace(DATA, labels=LABELS[:1]),))
    (data,) = gather(grid, tmp_path).data
    assert data.entities == sum(e.label == LABELS[0] for d in TEN for e in d.entities) > 0


def test_shifts(tmp_path: Path) -> None:
    data = CorpusSample(
        "one", (Document("a", "the knee and the hip", (_at("Gene", 4, 8),)),), LABELS, 1
    )
    grid = grid_of("multi_span,multi_term", data=data)
    spans, terms = grid.cells()
    write_cell(tmp_path, spans, data, {"a": _spans((2, 8), (17, 20))})
    write_cell(tmp_path, terms, data, {})
    with_offsets, without = results_of(grid, tmp_path)["cells"]
    assert "shifts" not in without
    # Two too early; and one 13 and 12 too late, as near as there is.
    assert with_offsets["shifts"] == {
        "exact": 0,
        "unrelated": 0,
        "start": [(-2, 1), (13, 1)],
        "end": [(0, 1), (12, 1)],
    }
    write_cell(tmp_path, spans, data, {"a": _spans((4, 8), (9, 12))})
    exact, _ = results_of(grid, tmp_path)["cells"]
    # What is right is not there to be missed again.
    assert exact["shifts"] == {"exact": 1, "unrelated": 1, "start": [], "end": []}


def _at(label: str, start: int, end: int) -> Entity:
    return Entity(label, ((start, end),))


def _spans(*spans: tuple[int, int]) -> str:
    return "Answer: " + json.dumps([{"span": list(span), "type": "Gene"} for span in spans])


def test_labels_that_models_drift_to(tmp_path: Path) -> None:
    """As in the paper's section 5.3: the right term, and a label that nobody asked for."""
    text = "metastatic lung tumors and knee"
    one = CorpusSample("one", (Document("a", text, (_at("Anatomy", 11, 22),)),), ("Anatomy",), 1)
    other = CorpusSample("other", (TEN[0],), ("Disease", "Gene"), 1)
    grid = Grid((MODEL,), (one, other), variants_of(["multi_triple", "single_tag"]), (Level.FREE,))
    for cell in grid.cells():
        data = one if cell.data == "one" else other
        drifted = {"a": "Answer:\nlung tumors; is a; Disease\nknee; is a; Disease"}
        write_cell(tmp_path, cell, data, drifted if cell.variant.format == "multi_triple" else {})
    found = {(c["data"], c["variant"]): c for c in results_of(grid, tmp_path)["cells"]}
    assert found["one", "multi_triple"]["labels_given"] == (("Anatomy", "Disease", 1),)
    assert found["one", "multi_triple"]["scores"]["strict"]["predicted"] == 0
    assert found["other", "multi_triple"]["labels_given"] == ()
    # A format that asks for one label at a time cannot write another one.
    assert "labels_given" not in found["one", "single_tag"]


def test_answers_beyond_the_papers_budget_and_allowed_mass(tmp_path: Path) -> None:
    grid = grid_of("multi_term", (Level.FAITHFUL,))
    (cell,) = grid.cells()
    kept = {
        "d0": {"allowed_mass": [0.5, 0.1], "tokens": 128},
        "d1": {"allowed_mass": [1.0, 0.3], "tokens": 129},
    }
    write_cell(tmp_path, cell, DATA, {}, **kept)
    (found,) = results_of(grid, tmp_path)["cells"]
    assert found["health"]["beyond"] == 1
    assert found["allowed_mass"] == {"mean": 0.75, "least": pytest.approx(0.2)}


def test_documents_to_look_at(tmp_path: Path) -> None:
    grid = grid_of("multi_term", (Level.FREE,))
    (cell,) = grid.cells()
    write_cell(tmp_path, cell, DATA, {"d0": gold(TEN[0], "multi_term")})
    shown = results_of(grid, tmp_path, shown=2)["documents"]
    assert [document["id"] for document in shown] == ["d0", "d1"]
    assert shown[0]["found"]["multi_term.free"]["entities"] == shown[0]["gold"]
    assert shown[1]["found"]["multi_term.free"]["entities"] == []
    assert len(shown[1]["gold"]) == 3
    assert results_of(grid, tmp_path, texts=["other"])["documents"] == []
    assert len(results_of(grid, tmp_path, texts=["ten"])["documents"]) == len(TEN)
