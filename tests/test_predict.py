"""Documents to entities: batches, questions, conversations, errors."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import current_thread
from typing import Any

import pytest
from outlines import backends
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from constrained_ner.corpora.jsonl import document_from_json
from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.engines import ENGINES, SERVER, VLLM, choose_engine
from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.errors import InputError, LabelError, UnknownNameError
from constrained_ner.formats import FORMATS, Feature, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.pipeline.calibration import Calibration, Threshold
from constrained_ner.pipeline.conflicts import Conflicts
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prediction import Prediction, Reply, Summary
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target, prompt
from constrained_ner.pipeline.scheduling import Job, answer_in_turns
from tests.support.models import tiny_llama

LABELS = ("Disease", "Anatomy")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", list(Level))
def test_every_format_and_level(
    name: str, level: Level, tiny_model: LoadedModel, samples: list[Document]
) -> None:
    documents = samples[:2]
    budget = 60 if level is Level.FREE else 500 if "code" in name else 160
    predictor = Predictor(
        tiny_model, FORMATS[name], [Target(LABELS)], level, batch_size=1, max_new_tokens=budget
    )
    found = list(predictor.predict(documents))
    assert [p.id for p in found] == [d.id for d in documents]
    for prediction, document in zip(found, documents, strict=True):
        assert prediction.error is None
        assert prediction.text == document.text
        assert len(prediction.replies) == len(FORMATS[name].questions(LABELS))
        for reply in prediction.replies:
            if level is not Level.FREE:
                assert reply.parses
                assert reply.ended
                assert reply.settled is not None
        # What is written can be read again.
        record = json.loads(json.dumps(prediction.to_json()))
        assert document_from_json(record).entities == prediction.entities
        for entity, written in zip(prediction.entities, record["entities"], strict=True):
            assert written["surface"] == entity.surface(document.text)


def test_the_next_questions_are_made_ready_beside_the_model(
    tiny_model: LoadedModel, samples: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But only the next ones, however many documents there are."""
    predictor = Predictor(
        tiny_model, FORMATS["multi_term"], [Target(LABELS)], batch_size=2, max_new_tokens=40
    )
    expected = list(predictor.predict(samples))
    request, threads = Predictor.request, []

    def watched(self: Predictor, turn: Any) -> Any:
        threads.append(current_thread().name)
        return request(self, turn)

    monkeypatch.setattr(Predictor, "request", watched)
    read = 0

    def source() -> Iterator[Document]:
        nonlocal read
        for document in samples:
            read += 1
            yield document

    found = []
    for prediction in predictor.predict(source()):
        found.append(prediction)
        # Those being answered, those made ready, and those that a slow one holds up.
        assert read <= len(found) + 2 + 2 + 6
    assert [p.to_json() for p in found] == [p.to_json() for p in expected]
    assert len(threads) == len(samples)
    assert current_thread().name not in threads


def test_documents_may_come_while_others_are_answered(
    tiny_model: LoadedModel, samples: list[Document]
) -> None:
    predictor = Predictor(tiny_model, FORMATS["multi_term"], [Target(LABELS)], max_new_tokens=80)
    told = []

    def source() -> Iterator[Job | None]:
        yield Job(predictor, samples[0])
        for _ in range(3):
            told.append("none for now")
            yield None
        told.append("another one")
        yield Job(predictor, samples[1])
        while True:
            yield None

    told.extend(prediction.id for _, prediction in answer_in_turns(source()))
    assert told[:4] == ["none for now"] * 3 + ["another one"]
    assert sorted(told[4:]) == sorted(one.id for one in samples[:2])


def test_single_questions_are_merged_in_text_order(
    tiny_model: LoadedModel, samples: list[Document]
) -> None:
    predictor = Predictor(tiny_model, FORMATS["single_tag"], [Target(LABELS)], batch_size=3)
    for prediction in predictor.predict(samples[:4]):
        assert {reply.labels for reply in prediction.replies} == {("Disease",), ("Anatomy",)}
        for reply in prediction.replies:
            assert {entity.label for entity in reply.entities} <= set(reply.labels)
        merged = {entity for reply in prediction.replies for entity in reply.entities}
        assert set(prediction.entities) == merged
        starts = [entity.start for entity in prediction.entities]
        assert starts == sorted(starts)


def test_batches_do_not_change_answers(tiny_model: LoadedModel, samples: list[Document]) -> None:
    def answers(batch_size: int) -> list[Prediction]:
        predictor = Predictor(
            tiny_model,
            FORMATS["multi_brat"],
            [Target(LABELS)],
            batch_size=batch_size,
            max_new_tokens=60,
        )
        return list(predictor.predict(samples[:4]))

    alone, together = answers(1), answers(4)
    assert [p.entities for p in alone] == [p.entities for p in together]


def test_a_conversation_shows_the_answers_before(
    tiny_model: LoadedModel, samples: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    messages = Conversation.messages

    def spy(self: Conversation, answers: Sequence[str] = ()) -> Any:
        seen.append(messages(self, answers))
        return seen[-1]

    monkeypatch.setattr(Conversation, "messages", spy)
    predictor = Predictor(tiny_model, FORMATS["conv_term"], [Target(LABELS)], max_new_tokens=30)
    predictor.check_room()
    seen.clear()
    (prediction,) = predictor.predict(samples[:1])
    first, second = seen
    assert [m["role"] for m in first] == ["user"]
    assert first[0]["content"].endswith(f"Text: {samples[0].text}\nType: Disease")
    assert [m["role"] for m in second] == ["user", "assistant", "user"]
    assert second[1]["content"] == prediction.replies[0].settled
    assert second[2]["content"] == "Type: Anatomy"


def test_one_bad_document_never_loses_the_others(samples: list[Document]) -> None:
    small = wrap("small", *tiny_llama(context=700))
    long = Document("long", "knee pain " * 400)
    documents: list[Document | InputError] = [
        samples[0],
        InputError("broken record", "data.jsonl", 7),
        Document("blank", " \n "),
        long,
        samples[1],
    ]
    predictor = Predictor(small, FORMATS["multi_tag"], [Target(LABELS)], batch_size=8)
    found = list(predictor.predict(documents))
    assert [p.error is None for p in found] == [True, False, False, False, True]
    assert "data.jsonl:7" in str(found[1].error)
    assert "'blank'" in str(found[2].error)
    assert "'long'" in str(found[3].error)
    assert "room for 700" in str(found[3].error)
    summary = Summary()
    for prediction in found:
        summary.add(prediction)
    assert len(summary.failed) == 3
    assert summary.health.parsed == summary.health.answers > 0


def test_a_budget_that_is_too_small_names_the_document(
    tiny_model: LoadedModel, samples: list[Document]
) -> None:
    predictor = Predictor(tiny_model, FORMATS["multi_code"], [Target(LABELS)], max_new_tokens=20)
    found = list(predictor.predict(samples[:2]))
    assert all(f"'{d.id}'" in str(p.error) for p, d in zip(found, samples, strict=False))
    assert all("smaller than the shortest" in str(p.error) for p in found)


def test_answers_shrink_to_what_the_context_holds(samples: list[Document]) -> None:
    small = wrap("small", *tiny_llama(context=1000))
    predictor = Predictor(small, FORMATS["multi_bio"], [Target(LABELS)], batch_size=4)
    for prediction in predictor.predict(samples[:4]):
        assert prediction.error is None
        assert prediction.replies[0].parses


@pytest.mark.parametrize("name", FORMATS)
def test_a_question_that_leaves_no_room_is_named_before_any_text(name: str) -> None:
    """It would make texts be cut into words, and blame them."""
    small = wrap("small", *tiny_llama(context=700))
    long = "very " * 400 + "long label"
    targets = [Target(("Disease",)), Target((long,))]
    options: dict[str, Any] = {"segment": "window", "max_new_tokens": 200}
    predictor = Predictor(small, FORMATS[name], targets, **options)
    with pytest.raises(InputError, match=rf"^{name}: the question about .*room for 700: ") as found:
        predictor.check_room()
    assert len(str(found.value)) < 300
    # The other label is asked for as if it was alone.
    text = Document("d", "knee pain and fever")
    alone = Predictor(small, FORMATS[name], targets[:1], **options)
    alone.check_room()
    (expected,), (prediction,) = alone.predict([text]), predictor.predict([text])
    assert [r.answer for r in prediction.replies] == [r.answer for r in expected.replies]
    assert len(prediction.replies) == 1
    ((_, why),) = prediction.left_out
    assert why == str(found.value)
    guided = Target(LABELS, guidelines={LABELS[1]: "word " * 400})
    with pytest.raises(InputError, match=r"takes \d+ tokens without a text"):
        Predictor(small, FORMATS[name], [guided]).check_room()


def test_bad_arguments(tiny_model: LoadedModel) -> None:
    with pytest.raises(LabelError, match="no labels"):
        Predictor(tiny_model, FORMATS["multi_term"], [Target(())])
    with pytest.raises(LabelError, match="twice"):
        Predictor(tiny_model, FORMATS["multi_term"], [Target(("a", "a"))])
    with pytest.raises(UnknownNameError, match="syntax level only"):
        Predictor(tiny_model, FORMATS["multi_term"], [Target(LABELS)], engine="xgrammar")
    with pytest.raises(UnknownNameError, match="multi_tag has none"):
        Predictor(
            tiny_model,
            FORMATS["multi_tag"],
            [Target(LABELS)],
            Level.SYNTAX,
            engine="outlines_core",
        )
    with pytest.raises(InputError, match="batch_size is 0: expected 1 or more"):
        Predictor(tiny_model, FORMATS["multi_term"], [Target(LABELS)], batch_size=0)
    with pytest.raises(InputError, match="max_new_tokens is 0: expected 1 or more"):
        Predictor(tiny_model, FORMATS["multi_term"], [Target(LABELS)], max_new_tokens=0)
    with pytest.raises(UnknownNameError, match="unknown engine"):
        Predictor(tiny_model, FORMATS["multi_tag"], [Target(LABELS)], engine="yacc")


def test_outlines_own_backend_on_the_json_formats(
    tiny_model: LoadedModel, samples: list[Document]
) -> None:
    predictor = Predictor(
        tiny_model,
        FORMATS["single_span"],
        [Target(("Disease",))],
        Level.SYNTAX,
        max_new_tokens=40,
        engine="outlines_core",
    )
    (prediction,) = predictor.predict(samples[:1])
    assert prediction.error is None
    (reply,) = prediction.replies
    assert reply.answer.startswith("Answer: [")
    # Without our processor nothing keeps the end in reach; what ended, parses.
    assert reply.parses or not reply.ended


def test_indexed_input_is_the_contracts() -> None:
    text = "These results suggest that BCL6 plays a role."
    last = prompt(
        FORMATS["multi_span"], text, Target(("protein",), "Genia"), index=True
    ).splitlines()[-1]
    assert last == ("Text: 0:These 6:results 14:suggest 22:that 27:BCL6 32:plays 38:a 40:role.")


def test_words_are_numbered_where_answers_are_tags() -> None:
    text = "BCL6 plays  a role."
    last = prompt(FORMATS["multi_bio"], text, Target(("protein",)), index=True).splitlines()[-1]
    assert last == "Text: 1:BCL6 2:plays 3:a 4:role."
    finer = get_format("multi_bio", Options(words="fine"))
    assert finer.indexed("a-b") == "1:a 2:- 3:b"


@pytest.mark.parametrize("name", FORMATS)
def test_the_prompt_is_the_contracts(name: str) -> None:
    format = FORMATS[name]
    labels = ("protein", "cell_type")
    about = format.conversations(labels)[0]
    chat = Conversation(format, "BCL6 binds.", Target(about, "Genia")).messages()
    lines = chat[0]["content"].splitlines()
    assert lines[0] == (
        "The task you need to complete is named entity recognition. Follow Genia guidelines."
    )
    assert lines[2] == "Text: BCL6 binds."
    if name != "conv_term":
        assert all(label in lines[1] for label in format.questions(labels)[0])
        assert len(lines) == 3
    else:
        assert lines[3] == "Type: protein"


def test_examples_are_shown_before_the_question(samples: list[Document]) -> None:
    example = Document(
        "x", "BCL6 binds CD28.", (Entity("Gene", ((0, 4),)), Entity("Gene", ((11, 15),)))
    )
    chat = Conversation(FORMATS["multi_triple"], "", Target(("Gene",))).demonstration(example)
    assert [m["role"] for m in chat] == ["user", "assistant"]
    assert chat[1]["content"] == "Answer:\nBCL6; is a; Gene\nCD28; is a; Gene"
    talk = Conversation(FORMATS["conv_term"], "", Target(("Gene", "Disease"))).demonstration(
        example
    )
    assert [m["role"] for m in talk] == ["user", "assistant"] * 2
    assert talk[1]["content"] == 'Answer: ["BCL6", "CD28"]'
    assert talk[3]["content"] == "Answer: []"
    small = replace(example, text="Zinc, aspirin", entities=())
    small = replace(small, entities=(Entity("Drug", ((0, 4),)), Entity("Drug", ((6, 13),))))
    for order, names in (("text", ["Zinc", "aspirin"]), ("paper", ["aspirin", "Zinc"])):
        format = get_format("conv_term", Options(order=order))
        chat = Conversation(format, "", Target(("Drug",))).demonstration(small)
        assert chat[1]["content"] == f"Answer: {json.dumps(names)}"


@pytest.mark.model
def test_a_real_model_on_real_sentences(smollm2: LoadedModel, samples: list[Document]) -> None:
    format = get_format("multi_triple", Options(max_fragments=2))
    predictor = Predictor(smollm2, format, [Target(LABELS)], batch_size=2, max_new_tokens=40)
    for prediction in predictor.predict(samples[:2]):
        assert prediction.error is None
        assert prediction.replies[0].parses


def ascii_model(without: str = "") -> LoadedModel:
    """A random model whose tokenizer has a token for each ASCII character, and no bytes."""
    every = "▁\n" + string.ascii_letters + string.digits + string.punctuation
    characters = [character for character in every if character not in without]
    known = {token: i for i, token in enumerate(["<unk>", "</s>", *characters])}
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    wrapper: Any = PreTrainedTokenizerFast
    fast = wrapper(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    return wrap("ascii", *tiny_llama(tokenizer=fast))


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_tokens_cannot_spell(name: str) -> None:
    """A label is refused before any work where answers hold it as it is; a text by itself."""
    model = ascii_model()
    documents = [Document("good", "knee pain"), Document("bad", "a β b")]
    if name in ("multi_code", "multi_span", "multi_term", "single_code"):
        with pytest.raises(LabelError, match="cannot spell '蛋'"):
            Predictor(model, FORMATS[name], [Target(("蛋白",))])
        targets = [Target(("protein",))]
    else:
        targets = [Target(("蛋白",))]  # not written, or as a slug
    predictor = Predictor(model, FORMATS[name], targets, max_new_tokens=400)
    good, bad = predictor.predict(documents)
    assert good.error is None
    assert bad.error == "document 'bad': the model's tokens cannot spell 'β' at offset 2"


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_tokens_cannot_spell_of_what_a_format_adds(name: str) -> None:
    """Digits of offsets, escapes of quotes: found beforehand, not as a dead end on the way."""
    format, text = FORMATS[name], 'a "sore" knee'
    digits = Feature.OFFSETS in format.expresses
    quotes = "\\" in format.write(text, [Entity("x", ((2, 8),))], ["x"])
    for without, needed in (("79", digits), ("\\", quotes)):
        predictor = Predictor(ascii_model(without), format, [Target(("x",))], max_new_tokens=600)
        (prediction,) = predictor.predict([Document("d", text)])
        if needed:
            assert str(prediction.error).startswith(
                "document 'd': the model's tokens cannot spell "
            ), prediction.error
            assert f"which {name} needs" in str(prediction.error)
        else:
            assert prediction.error is None


@pytest.mark.parametrize("name", [name for name in ENGINES if name not in (SERVER, VLLM)])
def test_an_engine_does_what_it_declares(
    name: str, tiny_model: LoadedModel, samples: list[Document]
) -> None:
    """Grammars, or else schemas; ends within the budget; probabilities of each token."""
    if name == "xgrammar":
        pytest.importorskip("xgrammar", reason="an extra")
        # By outlines it takes no model whose vocabulary is wider than its tokenizer's.
        model, tokenizer = tiny_llama()
        model.resize_token_embeddings(len(tokenizer))
        tiny_model = wrap("tiny", model, tokenizer)
    made = choose_engine(name, tiny_model)
    format, text = FORMATS["multi_term"], samples[0].text
    grammar = format.grammar(text, LABELS, Level.SYNTAX) if made.capabilities.grammars else None
    schema = None if made.capabilities.grammars else format.schema(LABELS)
    waiting = [
        Request(tiny_model.vocabulary.tokenize(text), budget, grammar, schema=schema, key=budget)
        for budget in (4, 9, 40)
    ]
    engine = made.make(tiny_model, 2, record=made.capabilities.log_probabilities)
    assert engine.capabilities == made.capabilities
    found = {r.key: a for r, a in engine.decode(lambda: waiting.pop() if waiting else None)}
    assert len(found) == 3
    for budget, one in found.items():
        assert isinstance(one, Answer)
        assert len(one.tokens) <= budget
        assert one.ended or not made.capabilities.grammars
        assert len(one.steps) == len(one.tokens) * made.capabilities.log_probabilities


def test_a_schema_is_made_into_masks_once(
    tiny_model: LoadedModel, samples: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = backends.get_regex_logits_processor

    def counted(*given: Any) -> Any:
        made.append(given)
        return make(*given)

    monkeypatch.setattr(backends, "get_regex_logits_processor", counted)
    options: dict[str, Any] = {"level": Level.SYNTAX, "engine": "outlines_core", "batch_size": 1}
    predictor = Predictor(tiny_model, FORMATS["multi_term"], [Target(LABELS)], **options)
    found = list(predictor.predict([samples[0], samples[1], samples[0]]))
    ((_, _, regex),) = made
    assert found[0].replies == found[2].replies
    # The space behind `Answer:` is a part of the token that a model begins the list with.
    for answer in ("[]", '[{"text": "a", "type": "Disease"}]'):
        assert re.fullmatch(regex, answer)
        assert re.fullmatch(regex, f" {answer}")


def test_an_answer_without_probabilities_costs_the_others_nothing(tiny_model: LoadedModel) -> None:
    """As an engine of others may give one: its entities stay, and the rest keeps its threshold."""
    document = Document("a", "No fever. Knee pain, hip pain. Gout and flu.")
    formats, targets = [FORMATS["multi_tag"]], [Target(("x",))]
    every = Predictor(tiny_model, formats, targets, segment="sentence", record=True)
    turns = every.turns(document)
    replies = next(iter(every.predict([document]))).replies
    found = [len(reply.entities) for reply in replies]
    assert len(turns) == len(replies) == 3
    assert min(found) > 0  # else the tiny model has to be another one
    for turn, reply in zip(turns, replies, strict=True):
        turn.outcome = reply
    turns[1].outcome = replace(replies[1], confidences=())
    strict = Predictor(
        tiny_model, formats, targets, segment="sentence", record=True, min_confidence=1.0
    )
    assert strict.prediction(document, turns).entities == text_order(replies[1].entities)
    lenient = every.prediction(document, turns)
    assert len(lenient.entities) == sum(found)
    assert lenient.confidences.keys() == {*replies[0].entities, *replies[2].entities}


@pytest.mark.parametrize(("name", "count"), [("multi_term", 1), ("conv_term", 9)])
def test_a_large_bound_on_answers_cuts_no_text(name: str, count: int) -> None:
    model = wrap("tiny", *tiny_llama(context=8192))
    text = "Aspirin eased the knee pain of the patient."
    targets = [Target(tuple(string.ascii_uppercase[:count]))]
    predictor = Predictor(
        model, get_format(name), targets, segment="sentence", max_new_tokens=model.context
    )
    turns = predictor.turns(Document("d", text))
    assert {turn.segment for turn in turns} == {(0, len(text))}


def test_room_is_for_the_question_that_takes_most(samples: list[Document]) -> None:
    model = wrap("tiny", *tiny_llama(context=700))
    long = "A_label_that_is_long_" * 6
    found = {}
    for labels in (("Disease", long), (long, "Disease")):
        predictor = Predictor(
            model, get_format("single_term"), [Target(labels)], segment="sentence"
        )
        found[labels[0]] = {turn.segment for turn in predictor.turns(samples[0])}
    assert found["Disease"] == found[long]
    # What a label means is a part of its question.
    model, parts = wrap("tiny", *tiny_llama(context=1000)), []
    for guidelines in ({}, {"Disease": "word " * 60}):
        target = Target(("Disease", long), guidelines=guidelines)
        predictor = Predictor(model, get_format("single_term"), [target], segment="sentence")
        turns = predictor.turns(samples[0])
        parts.append(len({turn.segment for turn in turns}))
        for turn in turns:
            derived = derived_budget(turn.format, turn.text, turn.labels, model.vocabulary)
            assert predictor.request(turn).budget == derived
    assert parts[1] > parts[0]


def test_what_else_words_were_called_is_as_probable_as_on_dev(tiny_model: LoadedModel) -> None:
    document, words = Document("d", "colon cancer here"), ((0, 12),)
    points, thresholds = ((0.0, 0.0), (1.0, 0.5)), (Threshold(0.0, 9, 1, 1),)
    half = Calibration(("multi_term",), "faithful", points, thresholds, 0, 0, 9, 9, 0)
    predictor = Predictor(
        tiny_model,
        get_format("multi_term"),
        [Target(("Disease",)), Target(("Cell",))],
        record=True,
        conflicts=Conflicts(order=("Disease", "Cell")),
        calibration=half,
    )
    turns = predictor.turns(document)
    for turn, sure in zip(turns, (0.96, 0.9), strict=True):
        entities = (Entity(turn.labels[0], words),)
        said = ("multi_term", turn.labels, turn.segment, "", None, entities, ())
        turn.outcome = Reply(*said, True, True, False, 1, None, (sure,))
    (found,) = predictor.prediction(document, turns).to_json()["entities"]
    assert (found["label"], found["confidence"], found["also"]) == ("Disease", 0.48, {"Cell": 0.45})
