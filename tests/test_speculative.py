"""The speculative engine writes what token by token decoding writes, and answers whoever asks."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import ANY

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GenerationConfig,
    PhimoeConfig,
    PhimoeForCausalLM,
)

from constrained_ner.documents import Document
from constrained_ner.engines import drafts, kv_cache
from constrained_ner.engines.base import Answer, Engine, Request
from constrained_ner.engines.completion import shortest_answer
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.kv_cache import RaggedKVCache
from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.engines.reference import ReferenceEngine, generate
from constrained_ner.engines.sequence import ConstrainedSequence
from constrained_ner.engines.speculative import SpeculativeEngine, unsupported_reason
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import BudgetError, CnerError, DecodingError, GrammarError
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Grammar, Level
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.prompts import Target
from tests.support.adversaries import draw_task
from tests.support.models import ARCHITECTURES, small_vocabulary, tiny, tiny_llama


def ask(engine: SpeculativeEngine, requests: Sequence[Request]) -> dict[Any, Answer | CnerError]:
    waiting = deque(requests)
    found = engine.decode(lambda: waiting.popleft() if waiting else None)
    return {request.key: answer for request, answer in found}


def answered(model: LoadedModel, request: Request) -> Answer:
    """Token by token, and alone: what is masked in float64 can be no number in a padded batch."""
    grammars = None if request.grammar is None else [request.grammar]
    return generate(model, [request.prompt], [request.budget], grammars)[0]


def drawn(rng: random.Random, model: LoadedModel, number: int) -> list[Request]:
    """Questions of mixed formats and lengths; some budgets are as tight as can be."""
    found = []
    for key in range(number):
        task = draw_task(rng, rng.choice(list(FORMATS)))
        shortest = shortest_answer(
            model.vocabulary.matcher(task.grammar), task.grammar, model.vocabulary
        )
        budget = len(shortest) + rng.choice([0, rng.randint(1, 20), 60, 150])
        prompt = model.vocabulary.tokenize(f"Find these in: {task.text}\n{task.labels[0]}")
        kind = task.format.name
        ahead = partial(task.format.propose_draft, text=task.text)
        found.append(
            Request(prompt[:200], budget, task.grammar, kind=kind, propose_draft=ahead, key=key)
        )
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_answers_are_those_of_token_by_token_decoding(name: str) -> None:
    model, rng = tiny(name), random.Random(1)
    assert unsupported_reason(model) == ""
    calls = Costs()
    for _ in range(5 if name == "llama" else 2):
        requests = drawn(rng, model, rng.randint(1, 8))
        expected = [answered(model, request) for request in requests]
        engine = SpeculativeEngine(model, rng.randint(1, 5), costs=calls)
        found = ask(engine, requests)
        assert [found[i] for i in range(len(expected))] == expected
    assert calls.calls < calls.tokens  # there were drafts that held


def test_so_are_free_answers(samples: list[Document]) -> None:
    model = tiny("llama")
    prompts = [model.vocabulary.tokenize(document.text) for document in samples[:10]]
    budgets = [5 + 7 * i for i in range(10)]
    expected = generate(model, prompts, budgets)
    requests = [Request(*pair, key=i) for i, pair in enumerate(zip(prompts, budgets, strict=True))]
    found = ask(SpeculativeEngine(model, 4), requests)
    assert [found[i] for i in range(10)] == expected


def test_so_is_what_is_recorded() -> None:
    model, rng = tiny("llama"), random.Random(2)
    requests = drawn(rng, model, 6)
    expected = generate(
        model,
        [request.prompt for request in requests],
        [request.budget for request in requests],
        [request.grammar for request in requests if request.grammar],
        record=True,
    )
    found = ask(SpeculativeEngine(model, 3, record=True), requests)
    for i, answer in enumerate(expected):
        given = found[i]
        assert isinstance(given, Answer)
        assert given.tokens == answer.tokens
        for one, other in zip(given.steps, answer.steps, strict=True):
            assert one.free == pytest.approx(other.free, abs=1e-4)
            assert one.masked == pytest.approx(other.masked, abs=1e-4)
            assert one.allowed_mass == pytest.approx(other.allowed_mass, abs=1e-4)


def test_so_are_answers_that_run_into_their_budgets() -> None:
    """A model that will not end is drafted for all the way, and closed by the budget."""
    model, rng = tiny("llama"), random.Random(7)
    ends = [
        token
        for token in range(model.vocabulary.ll_tokenizer.vocab_size)
        if token in model.vocabulary.ends or model.vocabulary.bytes_of([token])[:1] in b"]`"
    ]

    def goes_on(_: Any, __: Any, output: Any) -> None:
        output.logits[..., ends] -= 50

    model.steerable.model.register_forward_hook(goes_on)
    forced = 0
    for name in FORMATS:
        requests = []
        for key in range(2):
            task = draw_task(rng, name)
            prompt = model.vocabulary.tokenize(f"Find these in: {task.text}\n{task.labels[0]}")
            budget = len(model.vocabulary.tokenize(task.grammar.empty)) + rng.randint(30, 80)
            ahead = partial(task.format.propose_draft, text=task.text)
            requests.append(
                Request(prompt, budget, task.grammar, kind=name, propose_draft=ahead, key=key)
            )
        expected = {request.key: answered(model, request) for request in requests}
        forced += sum(answer.forced for answer in expected.values())
        for record in (False, True):
            found = ask(SpeculativeEngine(model, 3, record=record), requests)
            for key, one in found.items():
                assert isinstance(one, Answer)
                assert (one.tokens, one.forced) == (expected[key].tokens, expected[key].forced)
                assert len(one.steps) == (len(one.tokens) if record else 0)
            assert found.keys() == expected.keys()
    assert forced > 12


@pytest.mark.model
@pytest.mark.parametrize("level", [Level.FAITHFUL, Level.SYNTAX, Level.FREE])
def test_a_real_model_writes_the_same(
    smollm2: LoadedModel, samples: list[Document], level: Level
) -> None:
    short = sorted(samples, key=lambda document: len(document.text))[:1]
    for name in ("multi_tag", "multi_span", "conv_term"):
        answers = []
        for engine in ("speculative", "reference"):
            predictor = Predictor(
                smollm2,
                FORMATS[name],
                [Target(("Disease", "Gene"))],
                level,
                batch_size=2,
                max_new_tokens=40 if level is Level.FREE else None,
                engine=engine,
            )
            answers.append([reply.answer for p in predictor.predict(short) for reply in p.replies])
        assert answers[0] == answers[1]


def test_draws_have_the_distribution_of_the_model_under_the_mask() -> None:
    """Drafts hold only where the draw agrees, so that they change no probability."""
    model = tiny("llama")
    grammar = Grammar(
        "letters", Level.SYNTAX, 'start: "x" /[a-c]{2}/ "y"\n', "xaay", lambda p: (), 0
    )
    prompt = model.vocabulary.tokenize("xaay xaby xacy")
    number = 3000
    engine = SpeculativeEngine(model, 50, temperature=1.0, seed=5)
    requests = [Request(prompt, 12, grammar, key=i) for i in range(number)]
    counts = Counter(
        answer.tokens for answer in ask(engine, requests).values() if isinstance(answer, Answer)
    )
    assert sum(counts.values()) == number
    assert engine.costs.calls < engine.costs.tokens / 50

    expected: dict[tuple[int, ...], float] = {}
    paths: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while paths:
        tokens, share = paths.pop()
        if tokens and tokens[-1] in model.vocabulary.ends:
            expected[tokens] = share
            continue
        matcher = model.vocabulary.matcher(grammar)
        matcher.consume_tokens(list(tokens))
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *tokens]])
            logits = model.steerable.model(ids).logits[0, -1]
        allowed = model.vocabulary.allowed(matcher)
        shares = logits[torch.from_numpy(allowed)].softmax(-1).tolist()
        paths += [((*tokens, int(t)), share * s) for t, s in zip(allowed, shares, strict=True)]
    assert sum(expected.values()) == pytest.approx(1)
    # Pearson's statistic, the rare ones together; its mean is the degrees of freedom.
    often = [tokens for tokens, share in expected.items() if share * number >= 5]
    pairs = [(counts[tokens], expected[tokens] * number) for tokens in often]
    rest = number - sum(observed for observed, _ in pairs), number - sum(e for _, e in pairs)
    if rest[1] >= 5:
        pairs.append(rest)
    statistic = sum((observed - e) ** 2 / e for observed, e in pairs)
    freedom = len(pairs) - 1
    assert freedom > 3
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


def test_one_bad_question_leaves_the_others_alone() -> None:
    model, rng = tiny("llama"), random.Random(3)
    requests = drawn(rng, model, 5)
    expected = ask(SpeculativeEngine(model, 2), requests)
    bad = Request(requests[0].prompt, 1, requests[0].grammar, "document 'x'", key="bad")
    found = ask(SpeculativeEngine(model, 2), [*requests[:2], bad, *requests[2:]])
    error = found.pop("bad")
    assert isinstance(error, BudgetError)
    assert "document 'x'" in str(error)
    assert found == expected


def test_questions_that_come_later_are_answered_too() -> None:
    model, rng = tiny("llama"), random.Random(4)
    first, second = drawn(rng, model, 2)
    waiting = deque([first])
    order = []
    for request, _ in SpeculativeEngine(model, 3).decode(
        lambda: waiting.popleft() if waiting else None
    ):
        order.append(request.key)
        if request is first:
            waiting.append(second)
    assert order == [0, 1]


def test_what_drafts_have_learnt_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "_MOST", 7)
    model = tiny("llama")
    requests = drawn(random.Random(5), model, 6)
    engine = SpeculativeEngine(model, 2)
    found = ask(engine, requests)
    assert max(len(statistics.ngrams) for statistics in engine._statistics.values()) <= 7
    for request in requests:
        answer = found[request.key]
        assert isinstance(answer, Answer)
        assert answer.tokens == answered(model, request).tokens


def test_a_prompt_takes_over_what_rows_share_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    read = []
    call = RaggedKVCache.call

    def counted(self: RaggedKVCache, blocks: Any, wanted: Any, first: int = 0) -> torch.Tensor:
        read.append(sum(map(len, blocks)))
        return call(self, blocks, wanted, first)

    monkeypatch.setattr(RaggedKVCache, "call", counted)
    common = list(range(5, 105))
    requests = [Request([*common, 150 + i], 3, key=i) for i in range(6)]
    ask(SpeculativeEngine(model, 3), requests)
    # 100 tokens once, and then one of each prompt and two of each answer, drafts aside.
    assert sum(read) < 100 + 6 * 20


def test_prompts_that_begin_alike_in_many_ways() -> None:
    """Rows that end together make place for prompts that share much, or little, with them."""
    model, rng = tiny("llama"), random.Random(8)

    def some(most: int) -> list[int]:
        return [rng.randrange(5, 300) for _ in range(rng.randint(1, most))]

    for _ in range(10):
        stems = [some(40)]
        for _ in range(4):
            stem = rng.choice(stems)
            stems.append([*stem[: rng.randint(0, len(stem))], *some(60)])
        requests: list[Request] = []
        for _ in range(rng.randint(3, 6)):  # several at a time with one stem and one budget
            stem, budget = rng.choice(stems), rng.randint(1, 4)
            requests += [
                Request([*stem, *some(3)], budget, key=len(requests) + i) for i in range(3)
            ]
        expected = {request.key: answered(model, request) for request in requests}
        assert ask(SpeculativeEngine(model, rng.randint(2, 5)), requests) == expected


def test_rows_that_end_while_others_begin() -> None:
    """A row that begins has a draft, which it must not lose when an older one makes place for it.

    Budgets are far, since near their ends nothing is drafted, and prompts end alike, so that a row
    begins as those before it did.
    """
    model, rng = tiny("llama"), random.Random(9)
    requests = []
    for key in range(14):
        task = draw_task(rng, "multi_triple")
        prompt = [*model.vocabulary.tokenize(task.text)[:60], *range(7, 12)]
        budget = rng.randint(300, 330)
        requests.append(Request(prompt, budget, task.grammar, kind="one", key=key))
    begun: list[int] = []

    class Watched(SpeculativeEngine):
        def _draft_all(self, first: int) -> None:
            super()._draft_all(first)
            begun.extend(len(w.draft.tokens) for w in self._active[first:] if not w.tokens)

    expected = {request.key: answered(model, request) for request in requests}
    for record in (False, True):
        begun.clear()
        found = ask(Watched(model, 4, record=record), requests)
        assert sum(size > 0 for size in begun) > 10
        assert found.keys() == expected.keys()
        for key, one in found.items():
            assert isinstance(one, Answer)
            assert (one.text, one.tokens) == (expected[key].text, expected[key].tokens)
            assert len(one.steps) == (len(one.tokens) if record else 0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_few_tokens_in_float32_have_the_logits_of_the_model(name: str) -> None:
    model: Any = tiny(name).steerable.model
    model.float()
    for weight_name, weight in model.named_parameters():
        if weight_name.endswith("bias"):  # which begins as zeros
            torch.nn.init.normal_(weight, std=0.3)
    forwards = [module.forward for module in model.modules()]
    for width in (1, 2, 3, 4, 5, 8, 9):
        tokens = list(range(7, 27 + width))
        blocks = RaggedKVCache(model, 1)
        blocks.call([tokens[:20]], [0])
        found = blocks.call([tokens[20:]], [width])
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits[0, 20:]
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert [module.forward for module in model.modules()] == forwards


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rows_keep_their_own_contents(dtype: torch.dtype) -> None:
    """Whatever was called, forgotten, copied and swapped: the logits are the plain model's.

    Both round, each in its own way and that of its torch: ours are as near to the exact logits.
    """
    model = tiny("mistral")
    bare, rng = model.steerable.model, random.Random(6)
    cast: Any = bare
    cast.to(dtype)
    exact: Any = copy.deepcopy(bare)
    exact.double()
    blocks = RaggedKVCache(bare, 4)
    ours, plain = 1e-7, 1e-7  # the largest errors, of the largest logit
    for _ in range(60):
        kind = rng.choice(["call", "call", "forget", "copy", "swap"])
        row, other = rng.randrange(4), rng.randrange(4)
        if kind == "forget":
            blocks.forget(row, rng.randint(0, len(blocks.contents[row])))
        elif kind == "copy":
            blocks.copy(row, rng.randint(0, len(blocks.contents[row])), other)
        elif kind == "swap":
            blocks.swap(row, other)
        else:
            first = rng.randrange(4)
            new = [
                [rng.randrange(300) for _ in range(rng.randint(1, 9))]
                for _ in range(rng.randint(1, 4 - first))
            ]
            logits = blocks.call(new, [1] * len(new), first)
            for i in range(len(new)):
                tokens = torch.tensor([blocks.contents[first + i]])
                with torch.no_grad():
                    of_plain, of_exact = (m(tokens).logits[0, -1] for m in (bare, exact))
                largest = of_exact.abs().max()
                ours = max(ours, float((logits[i] - of_exact).abs().max() / largest))
                plain = max(plain, float((of_plain - of_exact).abs().max() / largest))
    assert all(blocks.contents)
    assert ours <= 2 * plain


def test_a_model_of_another_kind_is_decoded_token_by_token(samples: list[Document]) -> None:
    tokenizer, vocabulary = small_vocabulary()
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=vocabulary.size,
        hidden_size=32,
        n_layer=2,
        n_head=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    bare: Any = BloomForCausalLM(config)
    model = wrap("bloom", bare.eval(), tokenizer)
    assert unsupported_reason(model)
    predictor = Predictor(model, FORMATS["multi_term"], [Target(("Gene",))], max_new_tokens=40)
    assert predictor.unsupported_reason == unsupported_reason(model)
    predictions = list(predictor.predict(samples[:2]))
    assert all(reply.parses for prediction in predictions for reply in prediction.replies)


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("step", ["slack", "close", "take"])
def test_what_fails_for_one_row_stays_with_it(
    step: str, record: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of step of a row fails once, early and late: the answers beside it are the same."""
    model = tiny("llama")
    names = ("multi_term", "multi_tag", "multi_brat")
    text, labels = "Asthma and knee pain, no gout.", ("Disease",)

    def requests() -> list[Request]:
        found = []
        for key, name in enumerate(names):
            grammar = FORMATS[name].grammar(text, labels, Level.FAITHFUL)
            shortest = shortest_answer(model.vocabulary.matcher(grammar), grammar, model.vocabulary)
            prompt = model.vocabulary.tokenize(f"{name} of {text}")
            found.append(Request(prompt, len(shortest) + 12, grammar, name, key=key))
        return found

    expected = ask(SpeculativeEngine(model, 3, record=record), requests())
    whole = getattr(ConstrainedSequence, step)
    failed = 0
    for at in (0, 5):
        for bad, name in enumerate(names):
            calls = 0

            def fails(
                row: ConstrainedSequence, *given: Any, at: int = at, name: str = name, **rest: Any
            ) -> Any:
                nonlocal calls
                if row.grammar.format == name:
                    calls += 1
                    if calls == at + 1:
                        raise GrammarError("made to fail")
                return whole(row, *given, **rest)

            with monkeypatch.context() as patch:
                patch.setattr(ConstrainedSequence, step, fails)
                found = ask(SpeculativeEngine(model, 3, record=record), requests())
            for key, answer in found.items():
                if key == bad and calls > at:
                    failed += 1
                    assert isinstance(answer, CnerError)
                    assert f"{name}: {name}: at token" in str(answer)
                    assert "made to fail" in str(answer)
                else:
                    assert answer == expected[key]
    assert failed >= 3


def test_what_is_recorded_does_not_hang_on_the_budget() -> None:
    """So long as the budget does not cut in, with either engine."""
    model, rng = tiny("llama"), random.Random(5)
    alike = 0
    for request in drawn(rng, model, 12):
        assert request.grammar is not None
        free = replace(request, budget=900)
        (wide,) = ask(SpeculativeEngine(model, 1, record=True), [free]).values()
        if not isinstance(wide, Answer) or len(wide.tokens) > 400:
            continue
        # From where nothing is closed to the very length of the answer.
        for more in (60, 12, 3, 0):
            near = replace(request, budget=len(wide.tokens) + more)
            (narrow,) = ask(SpeculativeEngine(model, 1, record=True), [near]).values()
            (token_by_token,) = generate(
                model, [near.prompt], [near.budget], [request.grammar], record=True
            )
            for answer in (narrow, token_by_token):
                if isinstance(answer, Answer) and not answer.forced:
                    assert answer.tokens == wide.tokens
                    for one, other in zip(answer.steps, wide.steps, strict=True):
                        assert one.masked == pytest.approx(other.masked, abs=1e-5)
                        assert one.allowed_mass == pytest.approx(other.allowed_mass, abs=1e-5)
                    alike += 1
    assert alike > 20


@pytest.mark.parametrize("value", [-torch.inf, torch.nan])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_gives_nothing_a_chance_gets_no_answer(
    value: float, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the token whose id is 0, whatever it is."""
    model = tiny("llama")
    grammar = FORMATS["multi_term"].grammar("knee pain", ("x",), Level.FAITHFUL)
    call = RaggedKVCache.call

    def nothing(blocks: RaggedKVCache, *given: Any, **rest: Any) -> torch.Tensor:
        return call(blocks, *given, **rest).fill_(value)

    monkeypatch.setattr(RaggedKVCache, "call", nothing)
    for grammar_or_none, budget in ((grammar, 90), (grammar, 900), (None, 90)):
        engine = SpeculativeEngine(model, 1, temperature=temperature)
        (answer,) = ask(engine, [Request([5], budget, grammar_or_none, "one", key=0)]).values()
        assert isinstance(answer, DecodingError)
        assert "one: " in str(answer)
        assert "no token a probability above zero" in str(answer)


def test_what_is_no_number_stays_with_its_answer() -> None:
    """In the cache, too: a mask does not hide it."""
    model = tiny("llama")
    grammar = FORMATS["multi_term"].grammar("knee pain", ("x",), Level.FAITHFUL)
    bad = model.vocabulary.size - 1
    # The first one fails; another one takes its row, beside a longer one that goes on.
    broken, *good = [bad] * 30, [7, 8] * 20, [5, 6], [9, 10] * 3

    def requests(*prompts: list[int]) -> list[Request]:
        return [Request(p, 90, grammar, "one", key=len(p)) for p in prompts]

    expected = ask(SpeculativeEngine(model, 2), requests(*good))
    embeddings: Any = model.steerable.model.get_input_embeddings()
    before = embeddings.weight.data[bad].clone()
    embeddings.weight.data[bad] = torch.nan
    try:
        found = ask(SpeculativeEngine(model, 2), requests(broken, *good))
    finally:
        embeddings.weight.data[bad] = before
    assert isinstance(found.pop(30), DecodingError)
    assert found == expected
    assert all(isinstance(answer, Answer) for answer in expected.values())


LETTERS = Grammar("x", Level.SYNTAX, "start: /[A-Za-z]{20,30}/\n", "a" * 20, lambda _: (), 0)


@pytest.mark.parametrize("grammar", [None, LETTERS])
def test_what_is_no_number_behind_a_draft_is_forgotten(grammar: Grammar | None) -> None:
    """A draft changes no answer, also where the model cannot go on from it."""
    model = tiny("llama")
    (bad,) = model.vocabulary.tokenize("Q")
    drafted: list[str] = []

    def propose(written: str) -> str:
        drafted.append(written)
        return "QQQ"

    long = Request([7, 8] * 20, 60, grammar, key="long")
    short = Request([5, 6], 40, grammar, key="short")
    expected = ask(SpeculativeEngine(model, 2), [long, short])
    embeddings: Any = model.steerable.model.get_input_embeddings()
    before = embeddings.weight.data[bad].clone()
    embeddings.weight.data[bad] = torch.nan
    try:
        found = ask(SpeculativeEngine(model, 2), [long, replace(short, propose_draft=propose)])
    finally:
        embeddings.weight.data[bad] = before
    assert drafted
    assert found == expected


def test_a_long_prompt_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = tiny("llama"), random.Random(3)
    blocks = [rng.choices(range(300), k=size) for size in (40, 3, 17, 16)]
    once, more = Costs(), Costs()
    whole = RaggedKVCache(model.steerable.model, 4, once)
    expected = whole.call(blocks, [2, 1, 3, 1])
    monkeypatch.setattr(kv_cache, "_WIDEST", 16)
    parts = RaggedKVCache(model.steerable.model, 4, more)
    found = parts.call(blocks, [2, 1, 3, 1])
    assert (once.calls, more.calls) == (1, 1 + 2 + 1)
    assert parts.contents == whole.contents == blocks
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_threads_that_share_a_model_take_turns() -> None:
    model, rng = tiny("llama"), random.Random(7)
    batches = [drawn(rng, model, 3) for _ in range(4)]
    expected = [ask(SpeculativeEngine(model, 3), batch) for batch in batches]
    own = model.steerable.model.config._attn_implementation
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: ask(SpeculativeEngine(model, 3), batch), batches))
    assert found == expected
    assert model.steerable.model.config._attn_implementation == own
    assert not any("forward" in vars(module) for module in model.steerable.model.modules())


def test_threads_with_either_engine_take_turns() -> None:
    """Each changes the model for as long as it uses it."""
    model, rng = tiny("llama"), random.Random(8)
    requests = drawn(rng, model, 4)

    def by(engine: type[Engine]) -> dict[Any, Answer | CnerError]:
        waiting = deque(requests)
        found = engine(model, 1).decode(lambda: waiting.popleft() if waiting else None)
        return {request.key: answer for request, answer in found}

    engines: list[type[Engine]] = [SpeculativeEngine, ReferenceEngine] * 2
    expected = [by(engine) for engine in engines]
    settings = model.steerable.model.generation_config
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(by, engines)) == expected
    assert model.steerable.model.generation_config is settings


@pytest.fixture(scope="module")
def by_the_model_as_it_is() -> tuple[LoadedModel, list[Request], list[Answer]]:
    model = tiny("llama")
    requests = drawn(random.Random(9), model, 3)
    return model, requests, [answered(model, request) for request in requests]


@pytest.mark.parametrize(
    "settings",
    [
        {"min_length": 200},
        {"suppress_tokens": list(range(40, 200))},
        {"num_beams": 3},
        {"num_return_sequences": 2, "num_beams": 2},
        {"max_time": 0.0},
        {"return_dict_in_generate": True},
        {"prompt_lookup_num_tokens": 3},
        {"repetition_penalty": 3.0, "no_repeat_ngram_size": 1},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_models_own_settings_change_no_answer(
    settings: dict[str, Any], by_the_model_as_it_is: tuple[LoadedModel, Any, Any]
) -> None:
    model, requests, expected = by_the_model_as_it_is
    own = model.steerable.model.generation_config
    try:
        make: Any = GenerationConfig
        model.steerable.model.generation_config = make(**settings)
        assert [answered(model, request) for request in requests] == expected
    finally:
        model.steerable.model.generation_config = own


@pytest.mark.parametrize("engine", [SpeculativeEngine, ReferenceEngine])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_infinite_score_is_a_large_one(
    engine: type[Engine], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = wrap("tiny", *tiny_llama())
    bare: Any = model.steerable.model
    bare.to(dtype)
    head = bare.lm_head.forward

    def infinite(hidden: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = head(hidden)
        scores[..., ::7] = torch.inf
        return scores

    monkeypatch.setattr(bare.lm_head, "forward", infinite)
    waiting = deque(drawn(random.Random(10), model, 6))
    for request, answer in engine(model, 2, record=True).decode(
        lambda: waiting.popleft() if waiting else None
    ):
        assert isinstance(answer, Answer), (request.name, answer)
        for step in answer.steps:
            assert math.isfinite(step.masked)
            assert step.allowed_mass is not None
            assert 0 <= step.allowed_mass <= 1
    if engine is SpeculativeEngine:
        waiting = deque(drawn(random.Random(11), model, 6))
        drawing = SpeculativeEngine(model, 2, temperature=0.3)
        for _, answer in drawing.decode(lambda: waiting.popleft() if waiting else None):
            assert isinstance(answer, Answer)


@pytest.mark.parametrize("name", ["single_tag", "multi_tag", "multi_term", "multi_brat"])
def test_masks_behind_a_draft_that_did_not_hold(name: str, vocabulary: Vocabulary) -> None:
    """llguidance remembered the mask of the draft where only the text behind it was another one."""
    format, rng = FORMATS[name], random.Random(name)
    for text in ("0#> x", "left @@ knee", "a#b@c"):
        grammar = format.grammar(text, ("a;b",), Level.FAITHFUL)
        taken: list[int] = []
        for _ in range(25):
            at_hand = ConstrainedSequence(vocabulary, grammar)
            assert at_hand.matcher.try_consume_tokens(taken) == len(taken)
            allowed = [int(t) for t in vocabulary.allowed(at_hand.matcher)]
            allowed = [token for token in allowed if token not in vocabulary.ends]
            if not allowed:
                break
            some = rng.sample(allowed, min(6, len(allowed)))
            fresh = {}
            for token in some:
                other = ConstrainedSequence(vocabulary, grammar)
                other.matcher.consume_tokens([*taken, token])
                fresh[token] = vocabulary.allowed(other.matcher).tolist()
            for drafted, token in product(some, some):
                at_hand.matcher.consume_token(drafted)
                vocabulary.allowed(at_hand.matcher)
                at_hand.roll_back(1)
                at_hand.matcher.consume_token(token)
                assert vocabulary.allowed(at_hand.matcher).tolist() == fresh[token], (
                    vocabulary.text_of([*taken, token]),
                    vocabulary.text_of([drafted]),
                )
                at_hand.roll_back(1)
            taken.append(rng.choice(allowed))


def test_a_window_that_the_attention_is_not_told_of_is_noticed() -> None:
    """Phi-3.5's experts have it in their mask only, of which this engine makes its own."""
    tokenizer, vocabulary = small_vocabulary()
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads: dict[str, Any] = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 2,
    }
    for window, told in ((None, ""), (24, "its window of tokens is not told to the attention")):
        torch.manual_seed(0)
        config = PhimoeConfig(
            vocab_size=vocabulary.size, sliding_window=window, bos_token_id=None, **sizes, **heads
        )
        bare: Any = PhimoeForCausalLM(config)
        assert unsupported_reason(wrap("phimoe", bare.eval(), tokenizer)) == told
    assert unsupported_reason(tiny("mistral")) == ""


def test_threads_that_come_with_one_model_together() -> None:
    for seed in range(5):
        model = tiny_llama(seed=seed)
        loaded = wrap("tiny", *model)
        with ThreadPoolExecutor(4) as pool:
            reasons = list(pool.map(unsupported_reason, [loaded] * 4))
        assert reasons == [""] * 4


def test_an_answer_that_nobody_waits_for_gives_its_row_back(tiny_model: LoadedModel) -> None:
    calls = 0

    def wanted() -> bool:
        nonlocal calls
        calls += 1
        return calls < 5

    prompt = tiny_model.vocabulary.tokenize("the left knee")
    requests = iter([Request(prompt, 500, name="a", wanted=wanted), Request(prompt, 6, name="b")])
    engine = SpeculativeEngine(tiny_model, 1)
    found = {r.name: answer for r, answer in engine.decode(lambda: next(requests, None))}
    assert isinstance(found["a"], DecodingError)
    assert "nobody waits" in str(found["a"])
    assert isinstance(found["b"], Answer)
    assert calls < 10


def test_a_caller_who_leaves_while_others_come_changes_no_other_answer() -> None:
    model = tiny("llama")
    format, text = get_format("multi_term"), "the left and right knee pain of alpha cells"
    grammar = format.grammar(text, ["finding", "gene"], Level.FAITHFUL)
    prompts = [model.vocabulary.tokenize(f"{i} {text}") for i in range(3)]

    def answers(leaves: bool) -> dict[str, Answer | Exception]:
        gone = False
        coming = iter([0, None, None, 1, 2])  # by and by, while the first one is written

        def requests() -> Request | None:
            nonlocal gone
            number = next(coming, None)
            gone = leaves and number == 2
            if number is None:
                return None
            wanted = (lambda: not gone) if number == 0 else (lambda: True)
            return Request(prompts[number], 400, grammar, name=str(number), wanted=wanted)

        engine = SpeculativeEngine(model, 3)
        return {request.name: answer for request, answer in engine.decode(requests)}

    assert answers(True) == {**answers(False), "0": ANY}


def test_trying_a_model_leaves_each_part_as_it_was() -> None:
    model = tiny("llama")
    bare = model.steerable.model.train()
    bare.model.layers[0].eval()
    before = [module.training for module in bare.modules()]
    assert unsupported_reason(model) == ""
    assert [module.training for module in bare.modules()] == before
