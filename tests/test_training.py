"""Training: examples token by token, draws, recipes, batches, cards; small models that learn."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from llguidance.numpy import fill_next_token_bitmask
from packaging.version import Version

from constrained_ner.cli import main
from constrained_ner.documents import Document, Entity
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import InputError, TrainingError, UnknownNameError
from constrained_ner.evaluation import Counts
from constrained_ner.formats import FORMATS, Options, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import Dataset, Manifest
from constrained_ner.pipeline.prompts import Target
from constrained_ner.training import recipe as recipe_module
from constrained_ner.training.batches import (
    IGNORED,
    Batches,
    answers_only,
    as_item,
    collate,
    collate_packed,
    pack,
    reads_alike,
)
from constrained_ner.training.building import build
from constrained_ner.training.data import draw_examples, load_corpus
from constrained_ner.training.examples import Example, Question, make_examples
from constrained_ner.training.loop import train
from constrained_ner.training.objectives import OBJECTIVES
from constrained_ner.training.recipe import (
    CorpusFiles,
    Evaluation,
    Lora,
    Optimisation,
    Recipe,
    load_recipe,
)
from constrained_ner.training.sampling import (
    BEST,
    CONFIGURATIONS,
    AnnotatedCorpus,
    Sampling,
    draw,
    formats_of,
)
from constrained_ner.training.saving import card, describe
from constrained_ner.training.scoring import score
from tests.support.training import (
    FAMILIES,
    LABELS,
    TEN,
    model_of,
    one_example,
    save_model,
    short_recipe,
    tokenizer_of,
    write_documents,
)
from tests.test_predict import ascii_model

RECIPES = sorted(Path(recipe_module.__file__).parent.glob("*.toml"))
ALL = tuple(FORMATS)


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    return {family: model_of(family) for family in FAMILIES}


# ---- examples -----------------------------------------------------------------------------------


def asked_of(name: str) -> tuple[str, ...]:
    return LABELS if name == "conv_term" else get_format(name).questions(LABELS)[0]


def pieces_of(question: Question, family: str) -> list[tuple[str, bool]]:
    """What the model is to see, written by hand: text, and whether the loss is taken on it."""
    kind, format = FAMILIES[family], get_format(question.format)
    opening = question.chat()[0]["content"]
    pieces = [(kind.opening, False)]
    for turn, labels in enumerate(question.turns):
        asked = opening if turn == 0 else f"Type: {labels[0]}"
        kept, _ = format.expressible(question.document, labels, Level.FAITHFUL)
        answer = format.encode(replace(question.document, entities=kept), labels, Level.FAITHFUL)
        pieces += [
            (kind.ask(asked), False),
            (answer, True),
            (kind.end[0], True),
            (kind.end[1], False),
        ]
    return pieces[:-1]  # nothing comes behind the last turn's end


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", FORMATS)
def test_tokens_and_mask(name: str, family: str, models: dict[str, LoadedModel]) -> None:
    tokenizer = tokenizer_of(family)
    for document in TEN[:6]:
        question = Question(document, name, Target(asked_of(name), "ten"))
        example = one_example(question, models[family])
        expected = [
            (token, learnt)
            for text, learnt in pieces_of(question, family)
            for token in tokenizer(text, add_special_tokens=False)["input_ids"]
        ]
        found = list(zip(example.tokens, example.mask, strict=True))
        assert [(tokenizer.convert_ids_to_tokens(t), on) for t, on in found] == [
            (tokenizer.convert_ids_to_tokens(t), on) for t, on in expected
        ]
        assert example.dropped == 0
        # The prompt is what `cner predict` asks.
        prompt = models[family].encode(question.chat())
        assert list(example.tokens[: len(prompt)]) == prompt
        assert example.mask.index(True) == len(prompt)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_is_what_the_template_writes(
    family: str, models: dict[str, LoadedModel]
) -> None:
    question = Question(TEN[1], "conv_term", Target(("Gene", "Disease"), "ten"))
    example = one_example(question, models[family])
    answers = ['Answer: ["MYC", "IL2"]', 'Answer: ["gout"]']
    chat = question.chat(answers)  # up to the last answer
    assert [m["role"] for m in chat] == ["user", "assistant", "user", "assistant"]
    tokenizer = tokenizer_of(family)
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    behind = tokenizer(FAMILIES[family].end[1], add_special_tokens=False)["input_ids"]
    assert list(example.tokens) + behind == ids
    runs = tokenizer.decode([t for t, on in zip(example.tokens, example.mask, strict=True) if on])
    assert runs == "".join(answer + FAMILIES[family].end[0] for answer in answers)


def test_the_guideline_the_index_and_the_data_set_are_asked_with(
    models: dict[str, LoadedModel],
) -> None:
    question = Question(
        TEN[0], "single_span", Target(("Gene",), "Genia", "Gene: names."), index=True
    )
    text = models["smollm2"].vocabulary.text_of(one_example(question, models["smollm2"]).tokens)
    assert "Follow Genia guidelines.\nGene: names.\n" in text
    assert "Text: 0:BCL6 5:in 8:flu" in text


def test_a_model_without_a_chat_template(tiny_model: LoadedModel) -> None:
    vocabulary = tiny_model.vocabulary
    example = one_example(Question(TEN[1], "multi_triple", Target(LABELS, "ten")), tiny_model)
    learnt = [token for token, on in zip(example.tokens, example.mask, strict=True) if on]
    answer = "Answer:\ngout; is a; Disease\nMYC; is a; Gene\nIL2; is a; Gene"
    assert learnt == [*vocabulary.tokenize(answer), vocabulary.ends[0]]
    # Plain text has no token that ends the turns before: each is learnt by itself.
    assert_turn_by_turn(Question(TEN[1], "conv_term", Target(LABELS, "ten")), tiny_model)


def assert_turn_by_turn(question: Question, model: LoadedModel) -> None:
    """An example for each turn: the prompt that `cner predict` asks it with, and its answer."""
    examples = make_examples(question, model)
    answers: list[str] = []
    assert len(examples) == len(question.turns)
    for turn, example in enumerate(examples):
        prompt = model.encode(question.chat(answers))
        assert (example.turn, list(example.tokens[: len(prompt)])) == (turn, prompt)
        assert example.mask == (*[False] * len(prompt), *[True] * (len(example.mask) - len(prompt)))
        assert example.tokens[-1] == model.vocabulary.ends[0]
        answers.append(model.vocabulary.text_of(example.tokens[len(prompt) : -1]))
    assert answers == ['Answer: ["gout"]', 'Answer: ["MYC", "IL2"]']


def test_an_answer_ends_as_the_template_ends_it() -> None:
    """Of the tokens that end an answer, which need not be the model's first."""
    model = model_of("smollm2")
    end, other = model.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    ends = Vocabulary(model.tokenizer, model.vocabulary.size, [other, end])
    question = Question(TEN[1], "conv_term", Target(LABELS, "ten"))
    example = one_example(question, replace(model, vocabulary=ends))
    assert ends.ends == (other, end)
    assert example == one_example(question, model)


def test_entities_that_a_format_cannot_write_are_counted(models: dict[str, LoadedModel]) -> None:
    document = Document(
        "x", "left knee pain", (Entity("Disease", ((0, 4), (10, 14))), Entity("Disease", ((5, 9),)))
    )
    question = Question(document, "single_tag", Target(("Disease",), "ten"))
    assert one_example(question, models["smollm2"]).dropped == 1


def test_an_answer_that_the_masks_refuse_stops_training() -> None:
    document = Document("fr7", "an edème and flu", (Entity("Disease", ((3, 8),)),))
    question = Question(document, "multi_triple", Target(LABELS, "ten"))
    with pytest.raises(TrainingError) as found:
        one_example(question, ascii_model())  # it has no token for the accent
    assert "ten, document 'fr7', multi_triple: the masks refuse the gold answer" in str(found.value)
    assert "after 'Answer:\\ned'" in str(found.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_learnt_as_the_text_has_them(
    family: str, models: dict[str, LoadedModel]
) -> None:
    """Also by Qwen, whose tokenizer composes letters and marks."""
    text = "angioe\u0301de\u0300me and flu"
    document = Document("fr7", text, (Entity("Disease", ((0, 12),)),))
    question = Question(document, "multi_triple", Target(LABELS, "ten"))
    model = models[family]
    example = one_example(question, model)
    learnt = [token for token, on in zip(example.tokens, example.mask, strict=True) if on]
    assert model.vocabulary.text_of(learnt) == f"Answer:\n{text[:12]}; is a; Disease"


def test_too_long_for_the_context() -> None:
    model = model_of("smollm2", context=100)
    question = Question(TEN[1], "conv_term", Target(LABELS, "ten"))
    with pytest.raises(TrainingError, match=r"document 'd1', conv_term: \d+ tokens.*room for 100"):
        one_example(question, model)


def test_a_template_that_rewrites_the_turns_before(models: dict[str, LoadedModel]) -> None:
    # as those of reasoning models do, which write earlier answers otherwise
    model = model_of("smollm2")
    tokenizer = type(model.tokenizer)(
        tokenizer_object=model.tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = FAMILIES["smollm2"].template.replace(
        "message['content']",
        "message['content'] ~ (' (before)' if message['role'] == 'assistant' else '')",
    )
    model = replace(model, tokenizer=tokenizer)
    assert_turn_by_turn(Question(TEN[1], "conv_term", Target(LABELS, "ten")), model)


# ---- batches ------------------------------------------------------------------------------------


def test_a_batch_is_padded_on_the_right(models: dict[str, LoadedModel]) -> None:
    model = models["smollm2"]
    examples = [
        one_example(Question(d, "single_term", Target(("Gene",), "t")), model) for d in TEN[:4]
    ]
    batch = collate([as_item(example) for example in examples], 0)
    longest = max(len(example.tokens) for example in examples)
    for row, example in enumerate(examples):
        rest = longest - len(example.tokens)
        assert batch["input_ids"][row].tolist() == [*example.tokens, *[0] * rest]
        assert batch["attention_mask"][row].tolist() == [1] * len(example.tokens) + [0] * rest
        learnt = [t if on else IGNORED for t, on in zip(example.tokens, example.mask, strict=True)]
        assert batch["labels"][row].tolist() == learnt + [IGNORED] * rest


def examples_that_begin_alike(model: LoadedModel) -> list[Example]:
    """Four of one format, whose prompts begin alike; answers of unequal length."""
    return [one_example(Question(d, "multi_tag", Target(LABELS, "t")), model) for d in TEN[:4]]


def mixed_examples(model: LoadedModel) -> list[Example]:
    questions = [
        Question(TEN[1], "conv_term", Target(LABELS, "t")),
        Question(TEN[4], "multi_code", Target(LABELS, "t")),
        Question(TEN[3], "single_span", Target(("Gene",), "t")),
    ]
    return [one_example(question, model) for question in questions]


def alone(model: Any, examples: list[Example]) -> torch.Tensor:
    """The mean of each answer token's negative log-probability, every example by itself."""
    losses = []
    for example in examples:
        logs = model(torch.tensor([example.tokens])).logits[0].log_softmax(-1)
        places = [i for i, on in enumerate(example.mask) if on]
        losses += [-logs[i - 1, example.tokens[i]] for i in places]
    return torch.stack(losses).mean()


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.autograd.backward(loss)
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


WAYS = ("padded", "shared", "packed", "packed, eager", "packed, sdpa")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("of", [examples_that_begin_alike, mixed_examples])
def test_loss_and_gradients_are_those_of_the_examples_alone(of: Any, way: str) -> None:
    """However they are put together; and a mask over a packed row would change them."""
    language_model = model_of("smollm2")
    examples = of(language_model)
    model: Any = language_model.steerable.model
    model.eval()
    expected = alone(model, examples)
    of_expected = gradients(model, expected)
    items = [as_item(example) for example in examples]
    batch: dict[str, Any]
    if way.startswith("packed"):
        batch = collate_packed([items[:1], items[1:]])
        attention = way.partition(", ")[2]
        if attention:  # transformers finds the borders by the positions
            batch = {key: batch[key] for key in ("input_ids", "labels", "position_ids")}
            batch["use_cache"] = False
            model.set_attn_implementation(attention)
    else:
        batch = collate(items, 0, share=way == "shared")
        assert ("opening_ids" in batch) == (way == "shared")
    with answers_only(model, False):
        found = model(**batch).loss
    torch.testing.assert_close(found, expected)
    for name, gradient in gradients(model, found).items():
        torch.testing.assert_close(gradient, of_expected[name], rtol=1e-4, atol=1e-6)
    if way in ("packed, eager", "packed, sdpa"):
        masked = model(**batch, attention_mask=torch.ones_like(batch["input_ids"])).loss
        assert abs(masked - expected) > 1e-3


@pytest.mark.parametrize("way", ["padded", "shared", "packed"])
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if not OBJECTIVES[name].masked])
def test_an_objective_is_that_of_the_examples_alone(name: str, way: str) -> None:
    language_model, objective = model_of("smollm2"), OBJECTIVES[name]
    examples = [*examples_that_begin_alike(language_model)]
    model: Any = language_model.steerable.model
    model.eval()
    items = [as_item(example, objective) for example in examples]
    packed = way == "packed"
    batch = collate_packed([items]) if packed else collate(items, 0, share=way == "shared")
    tokens, weights = batch.pop("shift_labels"), batch.pop("weights")
    del batch["labels"]
    with torch.no_grad():
        expected = [
            float(alone(model, [example]) * sum(example.mask) * objective.weights(example.mask)[-1])
            for example in examples  # of one answer, whose tokens weigh alike
        ]
        with answers_only(model, False):
            found = objective.of(model(**batch).logits[0], tokens, weights, len(tokens))
    assert float(found) == pytest.approx(sum(expected) / len(tokens), rel=1e-4)


@pytest.mark.parametrize("way", ["padded", "shared", "packed"])
def test_the_masked_objective_is_over_what_the_masks_allow(way: str) -> None:
    language_model, objective = model_of("smollm2"), OBJECTIVES["masked"]
    vocabulary = language_model.vocabulary
    examples = [*examples_that_begin_alike(language_model)]
    model: Any = language_model.steerable.model
    model.eval()
    expected = unmasked = 0.0
    for example in examples:
        question = example.question
        (labels,) = question.turns
        grammar = FORMATS[question.format].grammar(question.document.text, labels, Level.FAITHFUL)
        matcher = vocabulary.matcher(grammar)
        words = np.zeros((1, (vocabulary.ll_tokenizer.vocab_size + 31) // 32), dtype=np.int32)
        with torch.no_grad():
            logits = model(torch.tensor([example.tokens])).logits[0].float()
        for at, (token, on) in enumerate(zip(example.tokens, example.mask, strict=True)):
            if on:
                fill_next_token_bitmask(matcher, words, 0)
                bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: vocabulary.size]
                open_ = logits[at - 1, np.flatnonzero(bits)]
                expected += float(open_.logsumexp(0) - logits[at - 1, token])
                unmasked += float(logits[at - 1].logsumexp(0) - logits[at - 1, token])
                if token not in vocabulary.ends:
                    assert matcher.consume_token(token)
    assert 0 < expected < 0.9 * unmasked
    items = [as_item(example, objective, vocabulary) for example in examples]
    batch = collate_packed([items]) if way == "packed" else collate(items, 0, share=way == "shared")
    tokens, weights, masks = (batch.pop(key) for key in ("shift_labels", "weights", "allowed"))
    del batch["labels"]
    with torch.no_grad(), answers_only(model, False):
        logits = model(**batch).logits[0]
        found = objective.of(logits, tokens, weights, len(tokens), masks)
    assert float(found) == pytest.approx(expected / len(tokens), rel=1e-4)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 99)), min_size=1, max_size=5))
def test_answers_weigh_the_same_however_long_they_are(turns: list[tuple[int, int]]) -> None:
    mask = [on for before, answer in turns for on in [False] * before + [True] * answer]
    weights = OBJECTIVES["answers"].weights(mask)
    assert [weight > 0 for weight in weights] == mask
    at = 0
    for before, answer in turns:
        of_answer = weights[at + before : at + before + answer]
        assert sum(of_answer) == pytest.approx(1)
        assert len(set(of_answer)) == 1
        at += before + answer


def test_a_model_generates_as_before_while_it_is_trained(models: dict[str, LoadedModel]) -> None:
    """Its own attention is given back on demand, and in the end."""
    model: Any = models["smollm2"].steerable.model
    own = model.config._attn_implementation
    items = [as_item(example) for example in mixed_examples(models["smollm2"])]
    tokens = torch.tensor([items[0]["input_ids"]])
    with torch.no_grad():
        expected = model(tokens).logits
        with answers_only(model, False) as give_back:
            model(**collate_packed([items]))
            assert model.config._attn_implementation != own
            give_back()
            assert torch.equal(model(tokens).logits, expected)
            model(**collate(items, 0))
        assert model.config._attn_implementation == own
        assert torch.equal(model(tokens).logits, expected)


def _tiny(name: str) -> Any:
    small: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    dense: dict[str, Any] = {**small, "intermediate_size": 48, "num_key_value_heads": 1}
    known: dict[str, Callable[[], Any]] = {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**dense)),
        "mistral": lambda: transformers.MistralForCausalLM(
            transformers.MistralConfig(**dense, sliding_window=8)
        ),
        "phimoe": lambda: transformers.PhimoeForCausalLM(
            transformers.PhimoeConfig(**dense, num_local_experts=2, sliding_window=64)
        ),
        "falcon": lambda: transformers.FalconForCausalLM(transformers.FalconConfig(**small)),
        "mamba": lambda: transformers.MambaForCausalLM(
            transformers.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2)
        ),
        "lfm2": lambda: transformers.Lfm2ForCausalLM(
            transformers.Lfm2Config(**dense, layer_types=["conv", "full_attention"])
        ),
    }
    torch.manual_seed(0)
    model = known[name]()
    for weight in model.parameters():
        weight.data *= 4 if weight.dim() > 1 else 1
    return model.eval()


@pytest.mark.parametrize(
    ("name", "packed", "shared"),
    [
        ("llama", True, True),
        ("mistral", True, True),  # whose window is shorter than the texts
        ("phimoe", False, True),  # which has its window in the mask only
        ("falcon", Version(transformers.__version__) >= Version("5.24"), True),
        ("mamba", False, False),
        ("lfm2", False, False),
    ],
)
def test_models_that_do_not_keep_texts_apart_are_known(
    name: str, packed: bool, shared: bool
) -> None:
    model = _tiny(name)
    text = [3 + 7 * i % 60 for i in range(30)]
    assert reads_alike(model, text, packed=True) == packed
    assert reads_alike(model, text, packed=False) == shared


@pytest.mark.parametrize("count", [1, 7, 8, 9, 203])
@pytest.mark.parametrize("together", [1, 2, 3])
def test_batches_hold_every_example_once(count: int, together: int) -> None:
    openings = [f"{index % 5}" for index in range(count)]
    lengths = [50 + 37 * index % 101 for index in range(count)]
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        sampler = Batches(openings, lengths, 8, together, seed, partial(int, epoch))
        order = list(sampler)
        assert sorted(order) == list(range(count))
        assert len(sampler) == count
        orders.append(order)
        batches = [order[at : at + 8] for at in range(0, count, 8)]
        if count > 100:
            alike = [len({openings[index] for index in batch}) == 1 for batch in batches]
            assert sum(alike) > 0.8 * len(batches)
            assert max(lengths[index] for index in batches[0]) == max(lengths)
    assert orders[0] == orders[3]
    if count > 100:
        assert len({tuple(order) for order in orders}) == 3


def test_rows_are_filled() -> None:
    items: list[dict[str, Any]] = [{"length": length} for length in (5, 4, 2, 30, 3, 3, 3, 3)]
    rows = pack(items, 10)
    assert [[item["length"] for item in row] for row in rows] == [[5, 4], [2], [30], [3, 3, 3], [3]]


# ---- draws --------------------------------------------------------------------------------------


def corpus_of(count: int, name: str = "made") -> AnnotatedCorpus:
    """Flat documents that every format can write; every fifth has no entity, some one label."""
    documents = [
        replace(TEN[i % 10], id=f"{name}{i}", text=f"{TEN[i % 10].text} {i}") for i in range(count)
    ]
    return AnnotatedCorpus(LABELS, name, documents=tuple(documents))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_numbers_are_the_configurations(name: str) -> None:
    formats = formats_of([name])
    corpora = [corpus_of(130, "a"), corpus_of(77, "b")]
    for split, most, expected in (("train", 100, (100, 77)), ("dev", 20, (20, 20))):
        examples = Sampling((name,), train=100, dev=20)
        for corpus, number in zip(corpora, expected, strict=True):
            questions = draw(corpus, split, 0, examples)
            assert len(questions) == number <= most
            assert len({question.document.id for question in questions}) == number
            dealt = Counter(question.format for question in questions)
            assert set(dealt) <= set(formats)
            low, high = divmod(number, len(formats))
            assert {dealt[format] for format in formats} <= {low, low + bool(high)}
            for question in questions:
                single = get_format(question.format).one_label and question.format != "conv_term"
                assert len(question.target.labels) == (1 if single else 2)
                assert question.target.name == corpus.name


def test_the_configurations_and_the_papers_numbers() -> None:
    assert formats_of(["all"]) == ALL
    assert len(ALL) == 12
    assert formats_of(["7best"]) == BEST
    assert set(BEST) == {
        *("conv_term", "multi_tag", "multi_term", "multi_triple"),
        *("single_code", "single_tag", "single_term"),
    }
    assert set(formats_of(["term_ner"])) == {"multi_term", "single_term"}
    assert formats_of(["single_tag", "term_ner", "single_term"]) == (
        *("single_tag", "multi_term", "single_term"),
    )
    assert all(formats_of([name]) == (name,) for name in ALL)
    with pytest.raises(
        UnknownNameError, match="unknown configuration '8best': expected one of all"
    ):
        formats_of(["8best"])
    assert (Sampling().train, Sampling().dev, Sampling().test) == (10_000, 200, 300)
    many = corpus_of(10_001)
    sampling = Sampling(("single_term",), Sampling().train)
    assert len(draw(many, "train", 0, sampling)) == 10_000


def test_a_draw_hangs_on_its_seed_its_corpus_and_its_split() -> None:
    sampling = Sampling(ALL, 50)
    first = draw(corpus_of(100), "train", 0, sampling)
    assert draw(corpus_of(100), "train", 0, sampling) == first
    for other in (
        draw(corpus_of(100), "train", 1, sampling),
        draw(corpus_of(100), "dev", 0, sampling),
    ):
        assert [q.document.id for q in other] != [q.document.id for q in first]


def test_each_round_has_another_format() -> None:
    def drawn(rounds: int, formats: tuple[str, ...] = ALL) -> list[Question]:
        questions: list[Question] = draw(
            corpus_of(100), "train", 0, Sampling(formats, 30, rounds=rounds)
        )
        return questions

    questions = drawn(4)
    assert len(questions) == 120
    # The rounds come one after another, the first as if it were the only one.
    assert questions[:30] == drawn(1)
    of: dict[str, list[str]] = {}
    for question in questions:
        of.setdefault(question.document.id, []).append(question.format)
    assert len(of) == 30
    assert all(len(set(formats)) == 4 for formats in of.values())
    # Where there are no other formats they come again.
    assert {q.format for q in drawn(3, ("multi_term", "single_term"))[60:]} == {
        "multi_term",
        "single_term",
    }


def test_formats_are_dealt_by_their_weights() -> None:
    formats = ("multi_term", "single_term", "multi_code")
    sampling = Sampling(formats, 500, weights={"multi_code": 0.25, "single_term": 2.0})
    dealt = Counter(question.format for question in draw(corpus_of(325), "train", 0, sampling))
    assert dealt == {"multi_term": 100, "single_term": 200, "multi_code": 25}


def test_formats_go_to_documents_that_they_can_express(samples: list[Document]) -> None:
    labels = ("Anatomy", "Chemical", "Disease", "Gene")
    options = Options(max_fragments=3)
    corpus = AnnotatedCorpus(labels, "samples", documents=tuple(samples))
    for seed in range(5):
        for question in draw(corpus, "train", seed, Sampling(ALL, 44), options):
            format = get_format(question.format, options)
            for asked in format.questions(labels):
                assert not format.expressible(question.document, asked, Level.FREE)[1]


def test_where_no_format_can_express_a_document_the_least_is_lost(samples: list[Document]) -> None:
    labels = ("Anatomy", "Chemical", "Disease", "Gene")
    corpus = AnnotatedCorpus(labels, "samples", documents=tuple(samples))

    def lost(name: str, document: Document) -> int:
        format = get_format(name)
        return sum(
            len(format.expressible(document, asked, Level.FREE)[1])
            for asked in format.questions(labels)
        )

    questions = draw(corpus, "train", 0, Sampling(("multi_bio", "single_tag"), 44))
    assert len(questions) == 44
    some = 0
    for question in questions:
        other = "multi_bio" if question.format == "single_tag" else "single_tag"
        assert lost(question.format, question.document) <= lost(other, question.document)
        some += lost(question.format, question.document) > 0
    assert some


def test_negative_labels_empty_documents_and_order() -> None:
    corpus = corpus_of(200)

    def drawn(format: str, **changed: Any) -> list[Question]:
        questions: list[Question] = draw(corpus, "train", 0, Sampling((format,), 200, **changed))
        return questions

    def negative(question: Question) -> bool:
        present = {entity.label for entity in question.document.entities}
        return not set(question.target.labels) <= present

    # As they occur: the label is drawn from all, whatever the document has.
    plain = drawn("single_term")
    assert {question.target.labels for question in plain} == {("Disease",), ("Gene",)}
    assert sum(negative(question) for question in plain) > 40
    assert sum(not question.document.entities for question in plain) == 20
    # Only labels that are there, but for documents that have none.
    positive = drawn("single_term", negative_labels=False)
    assert all(not negative(q) for q in positive if q.document.entities)
    assert sum(not q.document.entities for q in positive) == 20
    held_out = draw(corpus, "test", 0, Sampling(("single_term",), test=200, empty_documents=False))
    assert sum(not question.document.entities for question in held_out) == 20
    both = drawn("single_term", negative_labels=False, empty_documents=False)
    assert len(both) == 180
    assert not any(negative(question) for question in both)
    talk = drawn("conv_term", negative_labels=False, empty_documents=False)
    assert not any(negative(question) for question in talk)
    assert {len(question.target.labels) for question in talk} == {1, 2}
    # Only a share of the documents without entities, and only to train on.
    few = drawn("single_term", empty_share=0.5)
    assert 180 < len(few) < 200
    assert sum(bool(q.document.entities) for q in few) == 180
    assert len(drawn("single_term", empty_share=0.0)) == 180
    for split in ("dev", "test"):
        sampling = Sampling(("single_term",), dev=200, test=200, empty_share=0.0, rounds=3)
        assert len(draw(corpus, split, 0, sampling)) == 200
    # The order of labels and of turns.
    for format in ("conv_term", "multi_triple"):
        orders = Counter(question.target.labels for question in drawn(format))
        assert set(orders) == {LABELS, LABELS[::-1]}
        assert min(orders.values()) > 60
        assert {q.target.labels for q in drawn(format, shuffle_labels=False)} == {LABELS}
    # An index is for formats that say places only.
    assert all(q.index for name in ("multi_bio", "multi_span") for q in drawn(name, index=1.0))
    index = [q.index for q in drawn("single_span", index=0.5)]
    assert 60 < sum(index) < 140
    assert not any(q.index for q in drawn("single_term", index=1.0))


def test_guidelines_by_label_follow_the_labels_asked_for() -> None:
    corpus = replace(
        corpus_of(20), guideline="All.", guidelines={"Gene": "names", "Disease": "findings"}
    )
    for question in draw(corpus, "train", 0, Sampling(("single_term", "multi_tag"), 20)):
        lines = question.target.guideline_text.splitlines()
        assert lines[0] == "All."
        assert [line.split(":")[0] for line in lines[1:]] == list(question.target.labels)


def test_nothing_to_draw() -> None:
    blank = AnnotatedCorpus(LABELS, "blank", documents=(Document("b", " \n"),))
    with pytest.raises(InputError, match="'blank', train: no documents"):
        draw(blank, "train", 0, Sampling(ALL, 5))
    empty = AnnotatedCorpus(LABELS, "empty", documents=(TEN[4],))
    assert len(draw(empty, "train", 0, Sampling(ALL, 5))) == 1
    with pytest.raises(InputError, match="'empty', train: no documents"):
        draw(empty, "train", 0, Sampling(ALL, 5, empty_documents=False))


# ---- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.formats
    assert len({data.name for data in recipe.data}) == len(recipe.data)
    for data in recipe.data:
        assert all(str(path).startswith(f"corpora/{data.name}/") for path in data.paths)
    # The first line is a command that there is: run it up to where it would begin.
    first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    launcher, _, command = first.rpartition("constrained_ner " if "-m" in first else "cner ")
    assert launcher in (
        "",
        "accelerate launch --config_file training/ddp.yaml -m ",
        "torchrun --nproc-per-node 2 -m ",
    )
    words = command.split()
    assert words[1] == f"training/{path.name}"
    result = CliRunner().invoke(main, [words[0], str(path), *words[2:], "--epochs", "-1"])
    assert "training.epochs is -1.0" in str(result.exception) + result.output


def write_recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


DATA = '[[data]]\ntrain = "a.jsonl"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the recipe has no 'data'"),
        ("data = []\n", r"no \[\[data\]\]"),
        ("[[data]]\nname = 'a'\n", r"data\[0\] has no 'train'"),
        (f"epochs = 3\n{DATA}", "unknown key 'epochs': expected one of data, model"),
        (f"{DATA}[training]\nlearning-rate = 1.0\n", "unknown key 'training.learning-rate'"),
        (f"{DATA}colour = 1\n", r"unknown key 'data\[0\].colour'"),
        (f"{DATA}[lora]\nr = 8\n", "unknown key 'lora.r'"),
        (f"{DATA}[training]\nepochs = 'four'\n", "training.epochs is 'four': expected number"),
        (f"{DATA}[training]\nbatch_size = 2.5\n", "training.batch_size is 2.5: expected integer"),
        (f"{DATA}[training]\nbatch_size = true\n", "training.batch_size is True: expected integer"),
        (f"{DATA}labels = 'Gene'\n", r"data\[0\].labels is 'Gene': expected a list"),
        (f"{DATA}labels = [1]\n", r"data\[0\].labels\[0\] is 1: expected string"),
        (f"{DATA}guidelines = 'x'\n", r"data\[0\].guidelines is 'x': expected a table"),
        (f"{DATA}[lora]\ntargets = 5\n", "lora.targets is 5"),
        (f"lora = 8\n{DATA}", "lora is 8: expected a table"),
        (f"{DATA}[examples]\nformats = ['8best']\n", "examples.formats: unknown configuration"),
        (f"{DATA}[examples]\nformats = []\n", "examples.formats is empty"),
        (f"{DATA}[examples]\ntrain = 0\n", "examples.train is 0: expected more than 0"),
        (f"{DATA}[examples]\nindex = 1.5\n", "examples.index is 1.5: expected 0 to 1"),
        (f"{DATA}[evaluation]\nlevel = 'strict'\n", "evaluation.level: unknown"),
        (f"{DATA}[training]\nscheduler = 'sine'\n", "training.scheduler is 'sine'"),
        (f"{DATA}[training]\nobjective = 'f1'\n", "training.objective is 'f1': expected tokens"),
        (f"{DATA}[training]\ndtype = 'float16'\n", "training.dtype is 'float16'"),
        (f"{DATA}[training]\nlearning_rate = nan\n", "training.learning_rate is nan"),
        (f"{DATA}[training]\npatience = -1\n", "training.patience is -1: expected 0 or more"),
        (f"{DATA}[training]\nwarmup = 2\n", "training.warmup is 2.0: expected a share"),
        (f"{DATA}[lora]\nrank = 0\n", "lora.rank is 0"),
        (f"{DATA}[lora]\ndtype = 'auto'\n", "lora.dtype is 'auto'"),
        (
            f"{DATA}[lora]\nkeep_rank = 99\n",
            "lora.keep_rank is 99: expected lora.rank, 16, at most",
        ),
        (f"{DATA}examples = -1\n", "data.examples is -1"),
        (f"{DATA}rounds = -1\n", "data.rounds is -1"),
        (f"{DATA}weights = {{ multi_xml = 2 }}\n", "data.weights: 'multi_xml' is none of the"),
        (f"{DATA}weights = {{ multi_tag = 0 }}\n", "data.weights.multi_tag is 0.0: expected more"),
        (f"{DATA}[examples.weights]\nmulti_xml = 2\n", "examples.weights: 'multi_xml' is none"),
        (f"{DATA}[examples.weights]\nmulti_tag = inf\n", "examples.weights.multi_tag is inf"),
        ("[[data]\n", "not TOML"),
    ],
)
def test_recipes_that_are_wrong(text: str, message: str, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, text)
    with pytest.raises(InputError, match=message) as found:
        load_recipe(path)
    assert str(found.value).startswith(f"{path}:")


def test_a_whole_recipe(tmp_path: Path) -> None:
    path = write_recipe(
        tmp_path,
        'model = "m"\nseed = 7\n[lora]\nrank = 4\ntargets = ["q_proj"]\n[training]\nepochs = 2\n'
        '[examples]\nformats = ["7best"]\nshuffle_labels = false\n'
        f'{DATA}labels = ["Gene"]\nguidelines = {{ Gene = "names" }}\n',
    )
    assert load_recipe(path) == Recipe(
        (CorpusFiles(train=Path("a.jsonl"), labels=("Gene",), guidelines={"Gene": "names"}),),
        model="m",
        lora=Lora(4, targets=("q_proj",)),
        seed=7,
        examples=Sampling(("7best",), shuffle_labels=False),
        training=Optimisation(epochs=2.0),
    )
    with pytest.raises(InputError, match=r"nothing\.toml: cannot be read: No such file"):
        load_recipe(tmp_path / "nothing.toml")


# ---- corpora ------------------------------------------------------------------------------------


def test_corpora_that_cannot_be_trained_on(tmp_path: Path, models: dict[str, LoadedModel]) -> None:
    good = write_documents(tmp_path / "good.jsonl")
    none = write_documents(tmp_path / "none.jsonl", [])
    bare = write_documents(tmp_path / "bare.jsonl", [TEN[4]])
    model = models["smollm2"]

    def wrong(message: str, *data: CorpusFiles) -> None:
        with pytest.raises(InputError, match=message):
            draw_examples(Recipe(data, examples=Sampling(("single_term",))), model)

    wrong(r"none\.jsonl: holds no document", CorpusFiles(train=none))
    wrong(r"bare\.jsonl: no document has an entity", CorpusFiles(train=bare))
    wrong(r"gone\.jsonl: ", CorpusFiles(train=tmp_path / "gone.jsonl"))
    # What is needed only later is looked at, too.
    wrong(r"none\.jsonl: holds no document", CorpusFiles(train=good, dev=none))
    wrong(r"none\.jsonl: holds no document", CorpusFiles(train=good, test=none))
    wrong(r"gone\.jsonl: ", CorpusFiles(train=good, test=tmp_path / "gone.jsonl"))
    wrong(
        "the label 'Protein' occurs nowhere: there are Disease, Gene",
        CorpusFiles(train=good, labels=("Protein",)),
    )
    wrong(
        "data.guidelines: no label 'Protein'", CorpusFiles(train=good, guidelines={"Protein": "x"})
    )
    wrong("two corpora are called 'good'", CorpusFiles(train=good), CorpusFiles(train=good))
    for labels in ({"default_labels": ("Genes",)}, {"synonyms": (("Gene", "Genes"),)}):
        recipe = Recipe((CorpusFiles(train=good),), examples=Sampling(("single_term",)))
        with pytest.raises(
            InputError, match="no corpus has the label 'Genes': expected one of Dis"
        ):
            draw_examples(replace(recipe, **labels), model)
    long = write_documents(tmp_path / "long.jsonl", [Document("long", "knee pain " * 900)])
    for data in (CorpusFiles(train=good, dev=long), CorpusFiles(train=good, test=long)):
        recipe = Recipe((data,), examples=Sampling(("single_term",)))
        with pytest.raises(TrainingError, match=r"document 'long'.*room for 1024"):
            draw_examples(recipe, model)


def test_what_is_broken_is_left_out_and_reported(
    tmp_path: Path, models: dict[str, LoadedModel]
) -> None:
    path = write_documents(tmp_path / "ten.jsonl")
    with path.open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    recipe = Recipe((CorpusFiles(train=path, dev=path),), examples=Sampling(("all",), dev=3))
    drawn = draw_examples(recipe, models["smollm2"])
    assert [type(example) for example in drawn.train] == [Example] * 10
    assert len(drawn.dev) == 3
    assert [error.line for error in drawn.broken] == [11, 11]


def test_labels_and_fragments_come_from_the_data(
    tmp_path: Path, models: dict[str, LoadedModel]
) -> None:
    split = Document("s", "left and right knee", (Entity("Anatomy", ((0, 4), (15, 19))),))
    path = write_documents(tmp_path / "ten.jsonl", [*TEN, split])
    assert load_corpus(CorpusFiles(train=path), path).corpus.labels == (
        "Anatomy",
        "Disease",
        "Gene",
    )
    assert load_corpus(CorpusFiles(train=path, labels=("Gene",)), path).corpus.labels == ("Gene",)
    recipe = Recipe((CorpusFiles(train=path),), examples=Sampling(("multi_triple",)))
    drawn = draw_examples(recipe, models["smollm2"])
    assert drawn.options == Options(max_fragments=2)
    assert sum(example.dropped for example in drawn.train) == 0


def test_a_corpus_may_have_its_own_number_of_examples(
    tmp_path: Path, models: dict[str, LoadedModel]
) -> None:
    path = write_documents(tmp_path / "ten.jsonl")
    data = (
        CorpusFiles(train=path, dev=path, name="few", examples=3),
        CorpusFiles(train=path, dev=path, name="all"),
    )
    drawn = draw_examples(
        Recipe(data, examples=Sampling(("multi_term",), dev=4)), models["smollm2"]
    )
    counts = Counter(example.question.target.name for example in drawn.train)
    assert counts == {"few": 3, "all": 10}
    assert Counter(question.target.name for question in drawn.dev) == {"few": 4, "all": 4}


def test_weights_of_a_corpus_come_before_those_of_all(
    tmp_path: Path, models: dict[str, LoadedModel]
) -> None:
    path = write_documents(tmp_path / "ten.jsonl")
    data = (
        CorpusFiles(train=path, name="all"),
        CorpusFiles(train=path, name="own", weights={"single_term": 4.0}),
    )
    examples = Sampling(("multi_term", "single_term", "multi_tag"), weights={"multi_tag": 0.01})
    drawn = draw_examples(Recipe(data, examples=examples), models["smollm2"])
    dealt = Counter(
        (example.question.target.name, example.question.format) for example in drawn.train
    )
    assert abs(dealt["all", "multi_term"] - dealt["all", "single_term"]) <= 1
    assert dealt["own", "single_term"] >= 3 * dealt["own", "multi_term"] > 0
    assert max(dealt["all", "multi_tag"], dealt["own", "multi_tag"]) <= 1


def test_rounds_are_of_training_documents(tmp_path: Path, models: dict[str, LoadedModel]) -> None:
    path = write_documents(tmp_path / "ten.jsonl")
    data = (
        CorpusFiles(train=path, dev=path, test=path, name="own", rounds=3),
        CorpusFiles(train=path, name="all"),
    )
    drawn = draw_examples(Recipe(data, examples=Sampling(rounds=2)), models["smollm2"])
    counts = Counter(example.question.target.name for example in drawn.train)
    assert counts == {"own": 30, "all": 20}
    assert len(drawn.dev) == 10


def test_examples_built_side_by_side_are_the_same(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = draw(
        AnnotatedCorpus(LABELS, "ten", documents=TEN), "train", 0, Sampling(ALL, 10, rounds=13)
    )
    model = models["smollm2"]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    seen: list[Question] = []

    def noted(items: Iterable[Question]) -> Iterable[Question]:
        for item in items:
            seen.append(item)
            yield item

    assert build(questions, model, noted, few=1) == build(questions, model)
    assert seen == questions
    # Of what is wrong the first is told, as it is one by one.
    unwritable = replace(questions[70], document=Document("bad", "knee pain " * 900))
    with pytest.raises(TrainingError, match="document 'bad'"):
        build([*questions, unwritable, unwritable], model, few=1)


# ---- what a model says of itself ----------------------------------------------------------------


def test_the_card_is_valid_yaml() -> None:
    trained = Manifest(
        base="a: strange 'name'",
        formats=("multi_term",),
        datasets=(Dataset(("Gene",), 'so "called": x', documents=3, examples=2),),
        recipe={"lora": {"rank": 4}},
    )
    results = {
        ('so "called": x', "multi_term", "free"): Counts(
            gold=10, found=5.0, predicted=8, correct=5
        ),
        ('so "called": x', "multi_term", "faithful"): Counts(10, 0.0, 0, 0),
    }
    read = ModelCard(card(trained, results))  # the hub's own reader
    data: Any = read.data
    assert data.base_model == trained.base
    assert data.library_name == "peft"
    first, second = data.eval_results
    assert first.dataset_name == second.dataset_name == 'so "called": x'
    assert first.metric_type == second.metric_type == "f1"
    assert "multi_term, free" in first.metric_name
    assert first.metric_value == pytest.approx(10 / 18, abs=1e-4)
    assert second.metric_value == 0
    assert "| 62.5 | 50.0 | 55.6 | 10 |" in read.text
    told = card(trained, results, intervals={next(iter(results)): (0.5, 0.6123)})
    assert "| 62.5 | 50.0 | 55.6 | 50.0 to 61.2 | 10 |" in told
    assert "| faithful | 0.0 | 0.0 | 0.0 |  | 10 |" in told
    assert "model-index" not in card(trained, {})


def test_what_is_said_names_no_folder(tmp_path: Path, models: dict[str, LoadedModel]) -> None:
    path = write_documents(tmp_path / "ten.jsonl")
    recipe = short_recipe(Path("base"), path)
    drawn = draw_examples(recipe, models["smollm2"])
    said = describe(recipe, drawn, {}, {})
    said.save(tmp_path)
    assert str(tmp_path) not in (tmp_path / "cner.json").read_text(encoding="utf-8")
    assert sum(dataset.examples for dataset in said.datasets) == len(drawn.train)


# ---- learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_ten_documents_are_learnt_by_heart(name: str, tmp_path: Path) -> None:
    base = save_model(model_of("smollm2", width=64), tmp_path / "base")
    recipe = Recipe(
        (CorpusFiles(train=write_documents(tmp_path / "ten.jsonl"), name="ten"),),
        model=str(base),
        examples=Sampling((name,)),
        training=Optimisation(
            epochs=80.0,
            learning_rate=1e-2,
            scheduler="cosine",
            warmup=0.1,
            batch_size=10,
            accumulation=1,
            evaluations=0.01,
            dtype="float32",
        ),
        evaluation=Evaluation(batch_size=10),
    )
    model, drawn, _ = train(recipe, tmp_path / "run")
    questions = [example.question for example in drawn.train]
    assert len(questions) == 10
    gold = sum(e.label in q.target.labels for q in questions for e in q.document.entities)
    assert gold >= 7
    for level in ("free", "faithful"):
        evaluation = replace(recipe.evaluation, level=level)
        counts = score(model, questions, replace(recipe, evaluation=evaluation))
        assert counts == {name: Counts(gold, float(gold), gold, gold)}, level
