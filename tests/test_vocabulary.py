"""Tokens for answers and prompts, of tokenizers of many kinds."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from constrained_ner.documents import Document, Entity
from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.chat import Message, token_ids
from constrained_ner.engines.completion import complete, shortest_answer
from constrained_ner.engines.models import wrap
from constrained_ner.engines.reference import generate
from constrained_ner.engines.replay import replay
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import ModelError
from constrained_ner.evaluation.coverage import Checker
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.confidence import Confidence
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from tests.support.models import TOKENIZERS, small_vocabulary, tiny_llama, tokenizer_of
from tests.support.steered import Led, LedSpeculative

# What tokenizers change, drop, or take for something else than text.
ODD = [
    "knee o\u0308 e\u0301 \u212b",
    "10 m\u00b2 \u00a0 \uff21\uff23\uff27\uff34 \ufb01n \u00bd2",
    "<end> a <end><pad> <unk>",
    "Sj\u00f6gren Ca<sup>2+</sup> [INST]",
    "a\u2581b \u2581\u2581 \u0120x",
    "<0x41> \u200b\ufeff \x7f \U0001f9e0",
    "one\n\ntwo  three   four ",
]


def vocabulary_of(kind: str) -> Vocabulary:
    tokenizer = tokenizer_of(kind)
    end: Any = tokenizer.eos_token_id
    return Vocabulary.of(tokenizer, len(tokenizer) + 5, [end])


@pytest.mark.parametrize("text", ["<end>", "a <end><pad> b", 'Answer: ["<end>"]', "<en<end>d>"])
def test_what_reads_like_a_special_token_is_text(text: str, vocabulary: Vocabulary) -> None:
    tokens = vocabulary.tokenize(text)
    assert vocabulary.text_of(tokens) == text
    assert vocabulary.first_unspellable(text) is None
    assert vocabulary.continuation("", text) == tokens


@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
@pytest.mark.parametrize("name", FORMATS)
def test_the_masks_let_such_text_through(name: str, level: Level, vocabulary: Vocabulary) -> None:
    """Within the budget that is derived from it."""
    text = "Models emit <end> " + "<pad>" * 40 + " before colon cancer."
    spans = ((12, 17), (len(text) - 13, len(text) - 1))
    entities = tuple(Entity("finding", (span,)) for span in spans)
    report = Checker(FORMATS[name], ("finding",), level, vocabulary).check(
        [Document("d", text, entities)]
    )
    assert report.passed, report.rejections + report.failed
    assert report.answers == report.accepted == 1
    assert report.share < 1


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_a_text_is_spelt_byte_by_byte(kind: str, text: str) -> None:
    vocabulary = vocabulary_of(kind)
    tokens = vocabulary.tokenize(text)
    assert vocabulary.bytes_of(tokens) == text.encode()
    assert vocabulary.first_unspellable(text) is None
    assert vocabulary.spelling.control.isdisjoint(tokens)
    # None where a token begins before it.
    going_on = vocabulary.bytes_of(vocabulary.continuation("T1 gene 0 ", text))
    assert going_on in (text.encode(), b"")


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", FORMATS)
def test_the_masks_let_gold_answers_through(name: str, kind: str) -> None:
    """Whatever the tokenizer makes of their text."""
    text = " ".join(ODD).replace("\n", " ") + " and colon cancer."
    spans = ((0, 4), text_span(text, ODD[4]), (len(text) - 13, len(text) - 1))
    document = Document("d", text, tuple(Entity("finding", (span,)) for span in spans))
    for level in (Level.SYNTAX, Level.FAITHFUL):
        report = Checker(FORMATS[name], ("finding",), level, vocabulary_of(kind)).check([document])
        assert report.passed, (level, report.rejections, report.failed)
        assert report.accepted == 1


def text_span(text: str, part: str) -> tuple[int, int]:
    return text.index(part), text.index(part) + len(part)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_bytes_of_tokens_are_those_of_the_decoder(kind: str) -> None:
    """Between letters, where it strips nothing."""
    tokenizer, vocabulary = tokenizer_of(kind), vocabulary_of(kind)
    letter = vocabulary.tokenize("x")
    for token in range(len(tokenizer)):
        data = vocabulary.bytes_of([token])
        if token in vocabulary.spelling.control or not data.isascii():
            continue
        decoded: Any = tokenizer.decode(
            [*letter, token, *letter], clean_up_tokenization_spaces=False
        )
        assert decoded == f"x{data.decode()}x"


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
def test_the_tokenizers_own_beginning_of_an_answer_passes(kind: str, level: Level) -> None:
    """With the space that some put before a text, and which is no part of the answer."""
    tokenizer, vocabulary = tokenizer_of(kind), vocabulary_of(kind)
    for format in FORMATS.values():
        answer = format.write("knee pain", [Entity("a", ((0, 4),))], ["a"])
        tokens: Any = tokenizer(answer, add_special_tokens=False)["input_ids"]
        matcher = vocabulary.matcher(format.grammar("knee pain", ["a"], level))
        for spelt in (tokens, vocabulary.tokenize(answer)):
            whole = [*spelt, vocabulary.ends[0]]
            assert replay(vocabulary, matcher.deep_copy(), whole) == len(whole)
            assert vocabulary.text_of(whole) == answer
    assert vocabulary.spelling.prefixes == (kind in ("prefix", "llama2", "metaspace"))


@pytest.mark.parametrize("engine", [LedSpeculative, None])
@pytest.mark.parametrize("kind", ["prefix", "llama2"])
def test_an_answer_that_begins_with_the_tokenizers_space(kind: str, engine: Any) -> None:
    tokenizer = tokenizer_of(kind)
    model = wrap(kind, *tiny_llama(tokenizer=tokenizer))
    format = FORMATS["multi_term"]
    answer = format.write("knee pain", [Entity("a", ((0, 4),))], ["a"])
    own: Any = tokenizer(answer, add_special_tokens=False)["input_ids"]
    gold = [*own, model.vocabulary.ends[0]]
    grammar = format.grammar("knee pain", ["a"], Level.FAITHFUL)
    request = Request(model.vocabulary.tokenize("Knee?"), len(gold) + 40, grammar, key=gold)
    if engine is None:
        (given,) = generate(
            model,
            [request.prompt],
            [request.budget],
            [grammar],
            processor=Led(model, request, gold),
        )
    else:
        (found,) = [
            a for _, a in engine(model, 1, record=True).decode(iter([request, None]).__next__)
        ]
        assert isinstance(found, Answer)
        given = found
        confidence = Confidence(given, model.vocabulary)
        everything = math.exp(min(0.0, sum(step.masked for step in given.steps[:-1])))
        assert confidence.of([(0, len(answer))]) == pytest.approx(everything)
    assert given.text == answer
    assert list(given.tokens) == gold


def test_completions_of_an_answer_that_begins_with_a_space() -> None:
    vocabulary = vocabulary_of("llama2")
    for format in FORMATS.values():
        grammar = format.grammar("knee pain", ["a"], Level.FAITHFUL)
        assert vocabulary.text_of(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
        matcher = vocabulary.matcher(grammar)
        begun = vocabulary.tokenize(" ")
        assert matcher.consume_tokens(begun)
        rest = complete(matcher, begun, grammar, vocabulary)
        answer = vocabulary.text_of([*begun, *rest])
        assert not format.settle(answer, "knee pain", ["a"], Level.FAITHFUL).problems


def test_a_decoder_that_does_not_say_what_tokens_write() -> None:
    backend = Tokenizer(models.WordPiece({"a": 0, "##b": 1, "[END]": 2, "[UNK]": 3}))
    backend.decoder = decoders.WordPiece()
    wrapper: Any = PreTrainedTokenizerFast
    with pytest.raises(ModelError, match=r"decoder \(WordPiece\) does not say which bytes"):
        Vocabulary(wrapper(tokenizer_object=backend, eos_token="[END]"), 4, [2])


def test_a_token_that_is_text_does_not_end_an_answer() -> None:
    """Some models name their line break as an end, too: an answer has line breaks."""
    tokenizer, _ = small_vocabulary()
    text: Any = tokenizer.convert_tokens_to_ids("a")
    assert Vocabulary(tokenizer, len(tokenizer), [text, tokenizer.eos_token_id]).ends == (0,)
    with pytest.raises(ModelError, match="ordinary text, too: expected a special one"):
        Vocabulary(tokenizer, len(tokenizer), [text])


def test_an_end_that_is_an_added_token_and_not_special() -> None:
    """Some models have no other: in a text it is spelt in other tokens, and it ends no turn."""
    tokenizer, _ = small_vocabulary()
    tokenizer.add_tokens(["[END]"])
    tokenizer.chat_template = CHATML.replace("<end>", "[END]")
    model = wrap("added", *tiny_llama(tokenizer=tokenizer))
    end: Any = tokenizer.convert_tokens_to_ids("[END]")
    vocabulary = Vocabulary(tokenizer, model.vocabulary.size, [end])
    assert vocabulary.ends == (end,)
    assert vocabulary.bytes_of(vocabulary.tokenize("a [END] b")) == b"a [END] b"
    model = replace(model, vocabulary=vocabulary)
    predictor = Predictor(model, FORMATS["multi_term"], [Target(("a",))])
    for prediction in predictor.predict([Document("1", "knee pain"), Document("2", "a [END] b")]):
        assert prediction.error is None
    ids = model.encode([{"role": "user", "content": "a [END] b"}])
    assert ids.count(end) == 1


CHATML = (
    "{% for m in messages %}{{ '<pad>' + m.role + '\\n' + m.content | trim + '<end>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<pad>assistant\\n' }}{% endif %}"
)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("template", [CHATML, None])
def test_the_prompt_has_the_templates_own_special_tokens_only(
    kind: str, template: str | None
) -> None:
    tokenizer = copy(tokenizer_of(kind))
    tokenizer.chat_template = template
    vocabulary = vocabulary_of(kind)
    control = vocabulary.spelling.control
    plain: list[Message] = [{"role": "user", "content": "Text: knee"}]
    own = [token for token in token_ids(tokenizer, vocabulary, plain) if token in control]
    if template:
        whole: Any = tokenizer.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=True
        )
        read = tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert token_ids(tokenizer, vocabulary, plain) == read
        assert len(own) == 3
    for special in [*map(str, tokenizer.all_special_tokens), "\U000f00000\U000f0000<end>"]:
        for text in (special, f" Text: {special}\n<pad>system\n{special} ", f"a{special}b"):
            chat: list[Message] = [{"role": "user", "content": text}]
            ids = token_ids(tokenizer, vocabulary, chat)
            assert [token for token in ids if token in control] == own
            written = vocabulary.bytes_of([token for token in ids if token not in control])
            # Some tokenizers write spaces of their own behind special tokens.
            assert text.encode().replace(b" ", b"").strip() in written.replace(b" ", b"")


@pytest.mark.parametrize("kind", ["byte-level", "NFC", "NFKC", "added", "gemma"])
def test_answers_before_are_read_as_they_were_written(kind: str) -> None:
    tokenizer, vocabulary = copy(tokenizer_of(kind)), vocabulary_of(kind)
    tokenizer.chat_template = CHATML
    chat: list[Message] = [{"role": "user", "content": "Text: knee"}]
    before = token_ids(tokenizer, vocabulary, chat)
    for text in ODD:
        answer = f'Answer: ["{text.strip()}"]'
        talk = [*chat, {"role": "assistant", "content": answer}, *chat]
        wrote = [*before, *vocabulary.tokenize(answer), vocabulary.ends[0]]
        assert token_ids(tokenizer, vocabulary, talk)[: len(wrote)] == wrote


def test_marks_of_turns_that_are_not_special() -> None:
    """The template's own added tokens end no turn where a text has them; others are text."""
    tokenizer = copy(tokenizer_of("added"))
    tokenizer.chat_template = "{% for m in messages %}[INST]{{ m.content }}{% endfor %}"
    vocabulary = vocabulary_of("added")
    ids = token_ids(tokenizer, vocabulary, [{"role": "user", "content": "[INST]2<sup>3"}])
    words: Any = tokenizer
    mark, sup = words.convert_tokens_to_ids(["[INST]", "<sup>"])
    assert ids.count(mark) == 1
    assert ids.count(sup) == 1
    assert vocabulary.bytes_of(ids) == b"[INST][INST]2<sup>3"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "leaves out message 1 of 1"),
        (
            "{% for part in messages[0].content %}{{ part.text }}{% endfor %}",
            "leaves out message 1 of 1 .role 'user'.: expected one that writes each message's",
        ),
        ("{{ raise_exception('no user') }}", "cannot be used: TemplateError: no user"),
        ("{{ messages[0].content.text.type }}", "cannot be used: UndefinedError"),
        ("{% for %}", "cannot be used: TemplateSyntaxError"),
    ],
)
def test_a_template_that_cannot_be_used(template: str, message: str) -> None:
    tokenizer = copy(tokenizer_of("byte-level"))
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=message):
        wrap("odd", *tiny_llama(tokenizer=tokenizer))


def test_a_word_that_is_called_as_a_tokenizer_without_an_unknown_token_has_it() -> None:
    """It is a word as any other."""
    tokenizer = small_vocabulary()[0]
    tokenizer.add_tokens(["None"])
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer), [0])
    assert vocabulary.tokenize("None") == tokenizer.encode("None")
    assert len(vocabulary.tokenize("None")) == 1
