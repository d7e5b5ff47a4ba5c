"""The component of spaCy pipelines."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span, SpanGroup
from spacy.training import Example
from spacy.vocab import Vocab

from constrained_ner.documents import Entity
from constrained_ner.engines.models import LoadedModel
from constrained_ner.errors import InputError, LabelError, ModelError, UnknownNameError
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.extractor import Extractor
from constrained_ner.pipeline.prediction import Prediction
from constrained_ner.spacy_pipe import ConstrainedNer, surest
from tests.support.strategies import examples

LABELS = ["finding", "gene"]
TEXTS = [
    "left and right knee pain",
    "CD28-mediated activation of alpha and beta cells.",
    "",
    "The colon cancer patients. They had\r\nleft knee pain.",
    " \n ",
]


def pipeline(folder: Path, **config: Any) -> Language:
    nlp = spacy.blank("en")
    settings = {"model": str(folder), "labels": LABELS, "format": "multi_term"}
    nlp.add_pipe("cner", config=settings | config)
    return nlp


def spans_of(group: Any) -> list[tuple[str, int, int]]:
    return [(span.label_, span.start_char, span.end_char) for span in group]


def test_spacy_finds_it_without_an_import() -> None:
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    module, name = pyproject["project"]["entry-points"]["spacy_factories"]["cner"].split(":")
    assert getattr(import_module(module), name) is ConstrainedNer
    assert "doc.ents" in Language.get_factory_meta("cner").assigns


def test_pipelines_without_it_take_no_longer() -> None:
    """spaCy imports the factories of all packages with each pipeline."""
    code = (
        "import constrained_ner.spacy_pipe, sys; "
        "assert not {'transformers', 'outlines', 'peft'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- what is found


def test_every_entity_is_somewhere(tiny_folder: Path) -> None:
    """The same as without spaCy, each as a span or under a name that says why not."""
    kinds: Counter[str] = Counter()
    for boundaries in ("word", "character"):
        options: dict[str, Any] = {"max_fragments": 2, "boundaries": boundaries}
        # Of one mind in one of the two; nothing is left out for that.
        asked: dict[str, Any] = {"consistent": boundaries == "word", "min_confidence": 0.0}
        nlp = pipeline(tiny_folder, options=options, alignment_mode="strict", **asked)
        docs = list(nlp.pipe(TEXTS))
        assert [doc.text for doc in docs] == TEXTS
        expected = Extractor(tiny_folder).extract(
            TEXTS, labels=LABELS, format="multi_term", options=options, **asked
        )
        for doc, prediction in zip(docs, expected, strict=True):
            found = {(r["label"], r["fragments"]): r["confidence"] for r in doc._.cner_entities}
            assert found == {
                (e.label, e.fragments): round(prediction.confidences[e], 4)
                for e in prediction.entities
            }
            places = {
                "spans": [(label, ((s, e),)) for label, s, e in spans_of(doc.spans["cner"])],
                "discontinuous": [(r["label"], r["fragments"]) for r in doc._.cner_discontinuous],
                "unaligned": [(r["label"], r["fragments"]) for r in doc._.cner_unaligned],
            }
            assert sorted(chain(*places.values())) == sorted(found)
            kinds.update({kind: len(some) for kind, some in places.items()})
    assert all(kinds[kind] for kind in ("spans", "discontinuous", "unaligned"))


@pytest.fixture
def component(tiny_folder: Path) -> ConstrainedNer:
    return ConstrainedNer(
        spacy.blank("en"), model=str(tiny_folder), labels=LABELS, format="multi_term"
    )


def add(component: ConstrainedNer, text: str, entities: dict[Entity, float], **more: Any) -> Doc:
    """A document to which a prediction is added."""
    prediction = Prediction(
        "1",
        text,
        tuple(entities),
        confidences=entities,
        formats=(get_format("multi_term"),),
        level=Level.FAITHFUL,
        **more,
    )
    doc = spacy.blank("en")(text)
    component._add(doc, prediction)
    return doc


TEXT = "p53mutant left knee pain"
OUTER, INNER = Entity("finding", ((10, 24),)), Entity("site", ((15, 19),))
SPLIT = Entity("finding", ((10, 14), (20, 24)))
P53 = Entity("gene", ((0, 3),))


def test_the_surest_are_the_documents_entities(component: ConstrainedNer) -> None:
    doc = add(component, TEXT, {OUTER: 0.5, INNER: 0.9, SPLIT: 0.8, P53: 0.7})
    assert spans_of(doc.ents) == [("gene", 0, 9), ("site", 15, 19)]
    assert [ent._.cner_confidence for ent in doc.ents] == [0.7, 0.9]
    group = doc.spans["cner"]
    assert spans_of(group) == [("finding", 10, 24), ("site", 15, 19), ("gene", 0, 9)]
    assert group.attrs["scores"] == [0.5, 0.9, 0.7]
    assert [r["surface"] for r in doc._.cner_discontinuous] == ["left pain"]
    assert [r["fragments"] for r in doc._.cner_unaligned] == [((0, 3),)]
    assert doc[0:1]._.cner_confidence is None


def test_another_pass_replaces_what_the_first_one_found(component: ConstrainedNer) -> None:
    doc = add(component, TEXT, {OUTER: 0.5, INNER: 0.9})
    settings: dict[str, Any] = {"formats": (get_format("multi_term"),), "level": Level.FAITHFUL}
    for sure in ({OUTER: 0.4}, {INNER: 0.6, OUTER: 0.4}):
        component._add(doc, Prediction("1", TEXT, tuple(sure), confidences=sure, **settings))
        assert len(doc._.cner_entities) == len(sure)
    # Whoever takes a span out of the group changes no other's confidence.
    gone, *rest = doc.spans["cner"]
    doc.spans["cner"] = SpanGroup(doc, spans=rest, attrs=doc.spans["cner"].attrs)
    (left,) = doc.spans["cner"]
    assert {gone.label_, left.label_} == {"finding", "site"}
    assert left._.cner_confidence == {"finding": 0.4, "site": 0.6}[left.label_]


@pytest.mark.parametrize(
    ("mode", "expected"), [("expand", [("gene", 0, 9)]), ("strict", []), ("contract", [])]
)
def test_entities_inside_tokens(component: ConstrainedNer, mode: str, expected: object) -> None:
    component.alignment_mode = mode
    doc = add(component, TEXT, {P53: 0.7})
    assert spans_of(doc.spans["cner"]) == spans_of(doc.ents) == expected
    assert [record["surface"] for record in doc._.cner_unaligned] == ["p53"]


def test_entities_that_are_the_same_span_are_one(component: ConstrainedNer) -> None:
    doc = add(component, TEXT, {P53: 0.7, Entity("gene", ((0, 2),)): 0.8})
    assert spans_of(doc.spans["cner"]) == [("gene", 0, 9)]
    assert doc.spans["cner"].attrs["scores"] == [0.8]
    assert len(doc._.cner_entities) == 2


@pytest.mark.parametrize(
    ("overwrite", "expected"),
    [
        (False, [("OLD", 0, 9), ("OLD", 10, 14), ("site", 15, 19)]),
        (True, [("OLD", 0, 9), ("finding", 10, 24)]),
    ],
)
def test_entities_that_were_there_before(
    component: ConstrainedNer, overwrite: bool, expected: object
) -> None:
    component.overwrite_ents = overwrite
    doc = spacy.blank("en")(TEXT)
    doc.ents = (Span(doc, 0, 1, "OLD"), Span(doc, 1, 2, "OLD"))
    entities = {OUTER: 0.9, INNER: 0.5}
    settings: dict[str, Any] = {"formats": (get_format("multi_term"),), "level": Level.FAITHFUL}
    prediction = Prediction("1", TEXT, tuple(entities), confidences=entities, **settings)
    component._add(doc, prediction)
    assert spans_of(doc.ents) == expected
    component.set_ents, doc.ents = False, ()
    component._add(doc, prediction)
    assert doc.ents == ()


def test_nothing_is_left_of_entities_that_are_replaced(component: ConstrainedNer) -> None:
    component.overwrite_ents = True
    doc = spacy.blank("en")(TEXT)
    doc.ents = (Span(doc, 0, 4, "OLD"),)
    settings: dict[str, Any] = {"formats": (get_format("multi_term"),), "level": Level.FAITHFUL}
    component._add(doc, Prediction("1", TEXT, (INNER,), confidences={INNER: 0.9}, **settings))
    assert spans_of(doc.ents) == [("site", 15, 19)]


def test_what_could_not_be_asked_about_is_said(component: ConstrainedNer) -> None:
    with pytest.warns(UserWarning, match="cner: 0-4 left out: too long"):
        doc = add(component, TEXT, {INNER: 0.5}, left_out=(((0, 4), "too long"),))
    assert doc._.cner_left_out == ((0, 4, "too long"),)
    assert spans_of(doc.ents) == [("site", 15, 19)]


def test_without_a_mask_there_are_no_confidences(tiny_folder: Path) -> None:
    doc = pipeline(tiny_folder, level="free")("left knee pain")
    assert "scores" not in doc.spans["cner"].attrs
    assert all("confidence" not in record for record in doc._.cner_entities)


@examples(60)
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 9), st.integers(1, 10), st.sampled_from("ab")).filter(
            lambda span: span[0] < span[1]
        ),
        st.sampled_from([0.2, 0.5, 0.9]),
    )
)
def test_surest(drawn: dict[tuple[int, int, str], float]) -> None:
    """No two overlap, and whatever was left out overlaps one that is no less sure."""
    doc = Doc(Vocab(), words=["w"] * 10)
    scores = {Span(doc, start, end, label): p for (start, end, label), p in drawn.items()}
    chosen = surest(scores)
    tokens = [token.i for span in chosen for token in span]
    assert len(tokens) == len(set(tokens))
    for span in scores:
        if span not in chosen:
            held = [c for c in chosen if c.start < span.end and span.start < c.end]
            assert max(scores[c] for c in held) >= scores[span]


# ---- errors


def test_a_document_that_cannot_be_answered_goes_to_the_error_handler(tiny_folder: Path) -> None:
    nlp = pipeline(tiny_folder, segment="none")
    long = "knee " * 5000
    with pytest.raises(InputError, match="document 'knee knee"):
        nlp(long)
    with pytest.raises(InputError, match="document 'knee knee"):
        list(nlp.pipe([long]))
    failed: list[tuple[str, list[str], str]] = []

    def note(name: str, proc: object, docs: list[Doc], error: Exception) -> None:
        failed.append((name, [doc.text for doc in docs], str(error)))

    handler: Any = note  # spaCy's types say that none returns, and its documentation that one may
    nlp.set_error_handler(handler)
    docs = list(nlp.pipe(["left knee pain", long, "colon cancer"]))
    assert [doc.text for doc in docs] == ["left knee pain", "colon cancer"]
    ((name, texts, error),) = failed
    assert (name, texts) == ("cner", [long])
    assert "document 'knee knee" in error


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"model": "/no/model"}, ModelError, "/no/model"),
        ({"labels": ["a", "a"]}, LabelError, "asked for twice"),
        ({"labels": None}, LabelError, "expected labels"),
        ({"format": "multi_x"}, UnknownNameError, "multi_x"),
        ({"level": "high"}, UnknownNameError, "high"),
        ({"options": {"x": 1}}, UnknownNameError, "unknown option 'x': there are "),
        ({"segment": "page"}, UnknownNameError, "unknown segment 'page'"),
        ({"alignment_mode": "x"}, UnknownNameError, "unknown alignment_mode 'x'"),
        ({"label": ["a"]}, ValueError, "unexpected argument: 'label'"),
        ({"min_confidence": 0.5, "precision": 0.9}, InputError, "exclude each other"),
        ({"level": "free", "consistent": True}, InputError, "need confidences"),
        ({"level": "free", "format": "multi_tag,multi_term"}, InputError, "need confidences"),
        ({"batch_size": "many"}, ValueError, "'many' is not <class 'int'>"),
    ],
)
def test_settings_are_checked_when_it_is_added(
    tiny_folder: Path, config: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pipeline(tiny_folder, **config)


def test_notes_of_the_task_are_warnings(scored_folder: Path) -> None:
    with pytest.warns(UserWarning, match="not to be trusted"):
        pipeline(scored_folder, labels=None, format="multi_term")


# ---- saved and loaded


def test_a_saved_pipeline_is_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    """It names the model, whose weights are loaded once in a process, with the first document."""
    nlp = pipeline(tiny_folder, batch_size=3)
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    third = pipeline(tiny_folder, batch_size=3).from_bytes(nlp.to_bytes())
    assert again.config["components"]["cner"] == nlp.config["components"]["cner"]
    assert again.pipe_labels == {"cner": LABELS}
    components: list[Any] = [each.get_pipe("cner") for each in (nlp, again, third)]
    assert not any("extractor" in vars(component) for component in components)
    found = [[d._.cner_entities for d in each.pipe(TEXTS)] for each in (nlp, again, third)]
    assert found[0] == found[1] == found[2]
    assert len({id(component.extractor) for component in components}) == 1


def test_documents_can_be_stored(component: ConstrainedNer) -> None:
    doc = add(component, TEXT, {OUTER: 0.5, INNER: 0.9, SPLIT: 0.8, P53: 0.7})
    store = DocBin(store_user_data=True, docs=[doc])
    (back,) = DocBin().from_bytes(store.to_bytes()).get_docs(doc.vocab)
    assert back._.cner_entities == doc._.cner_entities
    assert back._.cner_discontinuous == doc._.cner_discontinuous
    assert spans_of(back.spans["cner"]) == spans_of(doc.spans["cner"])
    assert [ent._.cner_confidence for ent in back.ents] == [0.7, 0.9]


def test_spacy_scores_it(tiny_folder: Path) -> None:
    nlp = pipeline(tiny_folder)

    def gold() -> Iterator[Example]:
        doc = nlp.make_doc("left knee pain")
        yield Example.from_dict(doc, {"entities": [(0, 14, "finding")]})

    assert set(nlp.evaluate(list(gold()))) >= {"ents_f", "ents_per_type"}


@pytest.mark.model
def test_the_default_model(smollm2: LoadedModel) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("cner", config={"labels": ["Disease", "Chemical"]})
    (doc,) = nlp.pipe(["Metformin lowered fasting glucose in adults with type 2 diabetes."])
    assert ("Chemical", "Metformin") in {(ent.label_, ent.text) for ent in doc.ents}
    assert all(0 < ent._.cner_confidence <= 1 for ent in doc.ents)
