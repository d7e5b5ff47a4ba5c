"""The processor: masks, budgets, rows; with a tiny random model and with hostile logits."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LogitsProcessorList
from transformers.convert_slow_tokenizer import bytes_to_unicode

from benchmarks.always_parses import decode_each, judge, run
from constrained_ner.documents import Document
from constrained_ner.engines.completion import complete, shortest_answer
from constrained_ner.engines.models import LoadedModel
from constrained_ner.engines.processor import GrammarLogitsProcessor
from constrained_ner.engines.reference import generate
from constrained_ner.engines.sequence import ConstrainedSequence
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import BudgetError, DecodingError
from constrained_ner.formats import FORMATS, Feature, Format, Options, get_format
from constrained_ner.formats.grammar import Grammar, Level
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prompts import Target
from tests.support.adversaries import KINDS, draw_task
from tests.support.matching import reject
from tests.support.models import CORPUS, small_vocabulary, wrapped

TEXT = "The patient reported left and right knee pain after CD28-mediated therapy."
LABELS = ("finding", "gene")


def grammar_of(format: Format, level: Level = Level.FAITHFUL, text: str = TEXT) -> Grammar:
    return format.grammar(text, format.questions(LABELS)[0], level)


def anything() -> Grammar:
    """A grammar that lets everything through."""
    return Grammar("anything", Level.SYNTAX, "start: /(?s:.*)/\n", "", lambda partial: (), 0)


@pytest.mark.parametrize("name", FORMATS)
def test_every_answer_parses_whatever_the_model_prefers(name: str) -> None:
    faults = [result for result in run(80, seed=len(name), names=[name]) if result.fault]
    assert not faults, faults[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain"])
def test_every_answer_parses_whatever_is_asked(kind: str) -> None:
    results = list(run(12, seed=len(kind), names=list(FORMATS), batch=1, kinds=[kind]))
    faults = [result for result in results if result.fault]
    assert not faults, faults[0]


@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
def test_a_batch_of_all_formats_on_a_random_model(
    tiny_model: LoadedModel, level: Level, samples: list[Document]
) -> None:
    rng = random.Random(1)
    jobs: list[tuple[Format, Document, tuple[str, ...]]] = [
        (format, rng.choice(samples), format.questions(("Disease", "Anatomy"))[0])
        for format in FORMATS.values()
    ]
    grammars = [f.grammar(d.text, labels, level) for f, d, labels in jobs]
    starts = [tiny_model.vocabulary.matcher(g) for g in grammars]
    shortest = [
        len(shortest_answer(m, g, tiny_model.vocabulary))
        for m, g in zip(starts, grammars, strict=True)
    ]
    for extra in (0, 1, 7, 40):
        answers = generate(
            tiny_model,
            [
                tiny_model.encode(Conversation(f, d.text, Target(labels)).messages())
                for f, d, labels in jobs
            ],
            [length + extra for length in shortest],
            grammars,
        )
        for (format, document, labels), answer in zip(jobs, answers, strict=True):
            assert answer.ended
            settled = format.settle(answer.text, document.text, labels)
            assert len(set(settled.entities)) == len(settled.entities)


def test_sampling_and_beams_give_valid_answers_only(tiny_model: LoadedModel) -> None:
    ways: Iterator[dict[str, Any]] = cycle(
        [
            {"num_beams": 3, "num_return_sequences": 1},
            {"num_beams": 2, "do_sample": True, "temperature": 2.0, "num_return_sequences": 1},
            {"do_sample": True, "temperature": 2.0, "num_return_sequences": 2},
        ]
    )
    for (name, format), options in zip(FORMATS.items(), ways, strict=False):
        labels = format.questions(LABELS)[0]
        grammars = [grammar_of(format), grammar_of(format, text=CORPUS[-1])]
        texts = [TEXT, CORPUS[-1]]
        prompts = [
            tiny_model.encode(Conversation(format, text, Target(labels)).messages())
            for text in texts
        ]
        budgets = [len(tiny_model.vocabulary.tokenize(g.empty)) + 30 for g in grammars]
        torch.manual_seed(0)
        answers = generate(tiny_model, prompts, budgets, grammars, **options)
        copies = options["num_return_sequences"]
        assert len(answers) == 2 * copies, name
        for i, answer in enumerate(answers):
            format.decode(answer.text, texts[int(i // copies)], labels)


def test_beams_under_a_mask_can_beat_greedy(tiny_model: LoadedModel) -> None:
    """Were the rows mixed up, the scores would be those of other answers."""
    format = FORMATS["multi_term"]
    grammar = Grammar("letters", Level.SYNTAX, 'start: "x" /[a-d]{5}/\n', "xaaaa", lambda p: (), 0)
    prompt = tiny_model.encode(Conversation(format, TEXT, Target(LABELS)).messages())
    model = tiny_model.steerable.model

    def score(tokens: tuple[int, ...]) -> float:
        """Log-probability under the mask, from scratch."""
        processor = GrammarLogitsProcessor(tiny_model.vocabulary, [grammar])
        total, ids = 0.0, list(prompt)
        for token in tokens:
            with torch.inference_mode():
                logits = model(torch.tensor([ids])).logits[:, -1].float()
            # Beam search masks log-probabilities, not logits.
            masked = processor(torch.tensor([ids]), logits.log_softmax(-1))
            total += masked[0, token].item()
            ids.append(token)
        return total

    greedy = generate(tiny_model, [prompt], [20], [grammar])[0]
    beams = generate(tiny_model, [prompt], [20], [grammar], num_beams=6, length_penalty=0.0)[0]
    assert len(beams.text) == 6
    assert set(beams.text[1:]) <= set("abcd")
    assert score(beams.tokens) >= score(greedy.tokens) - 1e-4


def letters(count: str) -> Grammar:
    source = f'start: "x" /[a-d]{{{count}}}/\n'
    return Grammar("letters", Level.SYNTAX, source, "xaaaa", lambda partial: (), 0)


@pytest.mark.parametrize("count", ["2", "0,1", "2,400"])
def test_more_beams_than_answers(tiny_model: LoadedModel, count: str) -> None:
    """The best beam is an answer, and says whether the budget made it end."""
    prompts = [tiny_model.encode([{"role": "user", "content": text}]) for text in CORPUS[:3]]
    grammars = [letters(count)] * 3
    answers = [
        answer
        for beams in (2, 9, 40)
        for answer in generate(tiny_model, prompts, [9] * 3, grammars, num_beams=beams)
    ]
    for answer in answers:
        assert answer.ended
        assert reject(grammars[0], answer.text) is None
        assert not answer.forced or len(answer.tokens) == 9
    assert any(answer.forced for answer in answers) == (count == "2,400")


def test_what_beams_are_not_for(tiny_model: LoadedModel) -> None:
    ask = partial(generate, tiny_model, [[1, 2]], [9], [letters("2")], num_beams=3)
    with pytest.raises(DecodingError, match="several answers of masked beams"):
        ask(num_return_sequences=3)
    with pytest.raises(DecodingError, match="cannot be recorded"):
        ask(record=True)


def test_a_mask_that_allows_everything_changes_nothing(tiny_model: LoadedModel) -> None:
    vocabulary, steer = tiny_model.vocabulary, tiny_model.steerable
    prompts = [tiny_model.encode([{"role": "user", "content": text}]) for text in CORPUS]
    # A random model writes halves of characters, which no grammar allows: it may not here.
    foreign = [
        token
        for token in range(vocabulary.size)
        if token not in vocabulary.ends
        and (token >= len(tiny_model.tokenizer) or not vocabulary.bytes_of([token]).isascii())
    ]
    options: dict[str, Any] = {
        "max_new_tokens": 40,
        "do_sample": False,
        "eos_token_id": 0,
        "suppress_tokens": [1, *foreign],
    }
    free = steer.generate_batch(prompts, None, **options)
    processor = GrammarLogitsProcessor(vocabulary, [anything()] * len(prompts))
    masked = steer.generate_batch(prompts, processor, **options)
    assert free == masked
    assert len({tuple(answer) for answer in free}) > 1


@pytest.mark.model
def test_the_same_on_a_real_model(smollm2: LoadedModel, samples: list[Document]) -> None:
    format = FORMATS["multi_term"]
    prompts = [
        smollm2.encode(Conversation(format, d.text, Target(LABELS)).messages()) for d in samples[:4]
    ]
    free = generate(smollm2, prompts, [24] * 4)
    processor = GrammarLogitsProcessor(smollm2.vocabulary, [anything()] * 4)
    masked = generate(smollm2, prompts, [24] * 4, processor=processor)
    assert [a.tokens for a in free] == [a.tokens for a in masked]
    assert any(len(answer.tokens) > 3 for answer in free)


def test_a_processor_can_be_used_twice(tiny_model: LoadedModel) -> None:
    grammars = [grammar_of(FORMATS["multi_triple"]), grammar_of(FORMATS["multi_bio"])]
    processor = GrammarLogitsProcessor(tiny_model.vocabulary, grammars, [60, 60])
    prompts = [[5, 6, 7], [8, 9]]
    steer = tiny_model.steerable
    first = steer.generate_batch(prompts, processor, max_new_tokens=60, eos_token_id=0)
    second = steer.generate_batch(prompts, processor, max_new_tokens=60, eos_token_id=0)
    assert first == second
    # And without outlines, straight from transformers.
    third = steer.model.generate(  # type: ignore[operator]
        torch.tensor([[5, 6, 7]] * 2),
        attention_mask=torch.ones(2, 3, dtype=torch.long),
        logits_processor=LogitsProcessorList([processor]),
        max_new_tokens=60,
        eos_token_id=0,
        pad_token_id=1,
        do_sample=False,
    )
    answer = third[0, 3:].tolist()
    assert answer[: len(first[0])] == list(first[0])


def step(processor: GrammarLogitsProcessor, ids: list[list[int]]) -> torch.Tensor:
    logits = torch.zeros(len(ids), processor.vocabulary.size)
    masked: torch.Tensor = processor(torch.tensor(ids), logits)
    return masked


def test_rows_may_be_reordered(vocabulary: Vocabulary) -> None:
    grammar = Grammar("ab", Level.SYNTAX, 'start: "ab" "c" | "xy" "z"\n', "abc", lambda p: (), 0)
    a, b, x, y, c, z = (vocabulary.tokenize(char)[0] for char in "abxycz")
    processor = GrammarLogitsProcessor(vocabulary, [grammar])
    prompt = [[7, 7]]
    step(processor, prompt * 3)
    step(processor, [[7, 7, a], [7, 7, x], [7, 7, a]])
    step(processor, [[7, 7, x, y], [7, 7, x, y], [7, 7, a, b]])
    masked = step(processor, [[7, 7, a, b, c], [7, 7, x, y, z], [7, 7, x, y, z]])
    assert all((row > -torch.inf).nonzero().flatten().tolist() == [0] for row in masked)


def test_a_finished_row_can_only_end_again(vocabulary: Vocabulary) -> None:
    short = Grammar("a", Level.SYNTAX, 'start: "a"\n', "a", lambda p: (), 0)
    long = Grammar("aaa", Level.SYNTAX, 'start: "a" "b" "c"\n', "abc", lambda p: (), 0)
    a, b, c = (vocabulary.tokenize(char)[0] for char in "abc")
    processor = GrammarLogitsProcessor(vocabulary, [short, long], [9, 9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(processor, [[5], [5]])
        step(processor, [[5, a], [5, a]])
        masked = step(processor, [[5, a, 0], [5, a, b]])
        assert (masked[0] > -torch.inf).nonzero().flatten().tolist() == [0]
        masked = step(processor, [[5, a, 0, 1], [5, a, b, c]])
    assert (masked[0] > -torch.inf).nonzero().flatten().tolist() == [0]
    assert (masked[1] > -torch.inf).nonzero().flatten().tolist() == [0]


def test_tokens_that_the_tokenizer_lacks_are_never_allowed(vocabulary: Vocabulary) -> None:
    processor = GrammarLogitsProcessor(vocabulary, [anything()])
    masked = step(processor, [[5]])
    assert (masked[0, -37:] == -torch.inf).all()


def test_a_token_that_does_not_fit_is_an_error_with_its_place(vocabulary: Vocabulary) -> None:
    processor = GrammarLogitsProcessor(
        vocabulary, [grammar_of(FORMATS["multi_term"])], names=["document 'd1'"]
    )
    step(processor, [[5]])
    with pytest.raises(DecodingError, match=r"document 'd1': multi_term: at token 1"):
        step(processor, [[5, vocabulary.tokenize("z")[0]]])


@pytest.mark.parametrize("name", FORMATS)
def test_a_budget_below_the_shortest_answer_is_refused(name: str, vocabulary: Vocabulary) -> None:
    grammar = grammar_of(FORMATS[name])
    shortest = len(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
    GrammarLogitsProcessor(vocabulary, [grammar], [shortest])
    with pytest.raises(BudgetError, match=f"shortest {name} answer, which takes {shortest}"):
        GrammarLogitsProcessor(vocabulary, [grammar], [shortest - 1], ["document 'd'"])


@pytest.mark.parametrize("name", FORMATS)
def test_the_shortest_faithful_answer_finds_nothing(name: str, vocabulary: Vocabulary) -> None:
    grammar = grammar_of(FORMATS[name])
    tokens = shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary)
    assert vocabulary.text_of(tokens) == grammar.empty


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
def test_every_unfinished_answer_can_be_finished(
    name: str, level: Level, vocabulary: Vocabulary
) -> None:
    """And by no more tokens than its grammar says the way can grow."""
    rng = random.Random(name)
    for _ in range(12):
        task = draw_task(rng, name)
        grammar = task.format.grammar(task.text, task.labels, level)
        matcher = vocabulary.matcher(grammar)
        least = len(shortest_answer(matcher, grammar, vocabulary))
        path: list[int] = []
        for _ in range(rng.randrange(40)):
            options = [t for t in vocabulary.allowed(matcher) if t not in vocabulary.ends]
            if not options:
                break
            path.append(int(rng.choice(options)))
            assert matcher.consume_token(path[-1])
        rest = complete(matcher, path, grammar, vocabulary)
        grown = vocabulary.growth(grammar.markers) * len(path)
        assert len(rest) <= least + grammar.largest_growth + grown
        task.format.decode(vocabulary.text_of([*path, *rest]), task.text, task.labels)


HOSTILE = (
    ("Diagnosis:" + 200 * "\t" + "asthma", ("finding",)),
    ("a" + 330 * "\t" + "b and c", ("finding",)),
    ("pain in the knee", ("\N{GRINNING FACE}" * 20,)),
    ("pain in the knee", ("\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 60, "x")),
    ("a b", ("a", "b")),  # short tags, of which many may be open
    ("word " + "ACGT" * 300 + " in breast cancer", ("x",)),
)


# Runs in which a piece ends behind every character, so that a fragment could go on to the end.
RUNS = (
    "\N{BULLET}" * 120 + " pain",
    "Pain. " + "+-" * 60,
    "\u60a3\u8005\u6709\u53d1\u70ed\uff0c\u54b3\u55fd\u3002" * 12,
)


def written(
    grammar: Grammar,
    vocabulary: Vocabulary,
    budget: int,
    score: Callable[[ConstrainedSequence, list[int]], Sequence[float]],
) -> str:
    """The answer of a model that scores the tokens that are allowed, and wants no end."""
    sequence = ConstrainedSequence(vocabulary, grammar, budget)
    while not sequence.ended:
        assert len(sequence.tokens) < budget
        closing = sequence.slack() == 0
        allowed = vocabulary.allowed(sequence.matcher).tolist()
        scores = torch.full((vocabulary.ll_tokenizer.vocab_size,), -torch.inf)
        scores[allowed] = torch.tensor(score(sequence, allowed))
        scores[list(vocabulary.ends)] -= 10_000
        if closing:
            sequence.close(scores.clone(), scores, 1)
        sequence.take(int(scores.argmax()))
        assert not sequence.dead
    return vocabulary.text_of(sequence.tokens)


def write_away_from_the_end(
    grammar: Grammar, vocabulary: Vocabulary, budget: int, seed: str
) -> None:
    """An answer that is drawn from what leads away from its end, in half of the steps."""
    rng = random.Random(seed)
    ranks = vocabulary.towards_the_end(grammar.markup)

    def score(_: ConstrainedSequence, allowed: list[int]) -> list[float]:
        here = ranks[allowed] * (rng.random() < 0.5)
        return [rank + rng.random() for rank in here.tolist()]

    written(grammar, vocabulary, budget, score)


def write_as_wished(
    grammar: Grammar,
    vocabulary: Vocabulary,
    budget: int,
    wish: Callable[[str], Mapping[int, float]],
) -> str:
    """The answer of a model that gives some tokens more than 0, by what is written."""

    def score(sequence: ConstrainedSequence, allowed: list[int]) -> list[float]:
        more = wish(vocabulary.text_of(sequence.tokens))
        return [more.get(token, 0.0) for token in allowed]

    return written(grammar, vocabulary, budget, score)


def test_markers_far_before_where_they_may_be_closed(vocabulary: Vocabulary) -> None:
    """Behind a backslash and behind white space none may be."""
    format, text, label = FORMATS["multi_tag"], "\\ \\ \\ \\ \\ a", "qzxj"
    grammar = format.grammar(text, (label,), Level.FAITHFUL)
    target = f"Answer: {f'<{label}>' * 6}"

    def wish(written: str) -> dict[int, float]:
        rest = target.removeprefix(written) if target.startswith(written) else ""
        return {vocabulary.tokenize(rest)[0]: 9.0} if rest else {}

    least = len(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
    for budget in range(least, least + 300, 5):
        answer = write_as_wished(grammar, vocabulary, budget, wish)
        format.decode(answer, text, (label,), level=Level.FAITHFUL)


def bytes_joined(*pairs: tuple[bytes, bytes]) -> tuple[Vocabulary, list[int]]:
    """A token for each byte and for each pair, and the ids of the latter."""
    alphabet: Any = bytes_to_unicode
    spell: dict[int, str] = alphabet()

    def name(data: bytes) -> str:
        return "".join(spell[byte] for byte in data)

    names = [(name(one), name(other)) for one, other in pairs]
    words = ["<end>", "<pad>", *sorted(spell.values()), *("".join(pair) for pair in names)]
    ids = {word: token for token, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(ids, names))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>", "<pad>"])
    fast = wrapped(tokenizer)
    return Vocabulary.of(fast, len(fast), [0]), [ids["".join(pair)] for pair in names]


@pytest.mark.parametrize(
    ("name", "level", "text", "begun"),
    [
        ("multi_term", Level.SYNTAX, "knee", 'Answer: [{"text": "'),
        ("multi_triple", Level.SYNTAX, "knee", "Answer:\n"),
        ("multi_tag", Level.SYNTAX, "knee", "Answer: <x>"),
        ("multi_term", Level.FAITHFUL, "\N{BULLET}" * 300, 'Answer: [{"text": "'),
        ("multi_triple", Level.FAITHFUL, "\N{BULLET}" * 300, "Answer:\n"),
        ("multi_brat", Level.FAITHFUL, "\N{BULLET}" * 300, "Answer:\nT1 x 0 1 "),
        ("single_term", Level.FAITHFUL, f"Date {'__.' * 300}__c", 'Answer: ["'),
    ],
)
def test_tokens_that_begin_and_end_inside_of_something(
    name: str, level: Level, text: str, begun: str
) -> None:
    """Inside of words or of characters: an answer must not go on with them for ever."""
    vocabulary, across = bytes_joined(
        (b"\xa9", b"\xc3"),
        (b"\xe2", b"\x80"),
        (b"\xa2", b"\xe2\x80"),
        (b"_", b"_"),
        (b"__", b"."),
        (b"__.", b"__"),
    )

    def wish(written: str) -> dict[int, float]:
        if begun.startswith(written) and written != begun:
            return {vocabulary.tokenize(begun.removeprefix(written))[0]: 20.0}
        return {token: 5.0 + len(vocabulary.bytes_of([token])) for token in across}

    grammar = FORMATS[name].grammar(text, ("x",), level)
    least = len(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
    for more in (0, 40, 120, 160):
        answer = write_as_wished(grammar, vocabulary, least + more, wish)
        FORMATS[name].decode(answer, text, ("x",), level=level)


def test_a_token_that_opens_several_markers() -> None:
    """What it opens has to be closed: of all of them, not of the longest one."""
    labels = [letter * 40 for letter in "pqrs"]
    opening = "".join(f"<{label}>" for label in labels)
    tokenizer = small_vocabulary()[0]
    tokenizer.add_tokens([opening])
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer), [0])
    token: Any = tokenizer.convert_tokens_to_ids(opening)
    grammar = FORMATS["multi_tag"].grammar("knee b c", labels, Level.FAITHFUL)
    assert vocabulary.growth(grammar.markers) >= 5 * len(f"</{labels[0]}>")
    least = len(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
    for more in range(grammar.largest_growth, grammar.largest_growth + 1000, 50):
        write_as_wished(grammar, vocabulary, least + more, lambda _: {token: 9.0})


def test_texts_of_many_tokens_that_an_answer_begins_with(vocabulary: Vocabulary) -> None:
    text = "ab " * 13_000 + "b"
    grammar = FORMATS["multi_code"].grammar(text, ("x",), Level.FAITHFUL)
    completion = ConstrainedSequence(vocabulary, grammar, 30_000).completion
    assert completion is not None
    assert 20_000 < len(completion) < 30_000


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", [Level.SYNTAX, Level.FAITHFUL])
def test_answers_end_in_time_whatever_is_drawn(
    name: str, level: Level, text: tuple[str, tuple[str, ...]], vocabulary: Vocabulary
) -> None:
    """With white space, labels and words that are long, and budgets that are close."""
    labels = text[1][:1] if FORMATS[name].one_label else text[1]
    grammar = FORMATS[name].grammar(text[0], labels, level)
    least = len(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
    for more in (0, 60, 250):
        write_away_from_the_end(grammar, vocabulary, least + more, f"{name}/{text}/{more}")


@pytest.mark.parametrize("fragments", [2, 4])
@pytest.mark.parametrize("text", RUNS, ids=range(len(RUNS)))
@pytest.mark.parametrize(
    "name", [name for name in FORMATS if Feature.DISCONTINUOUS in FORMATS[name].expresses]
)
def test_fragments_that_are_missing_are_written_in_time(
    name: str, text: str, fragments: int, vocabulary: Vocabulary
) -> None:
    """The budget cuts in within an item: the way to its end is as short as `Grammar` promises."""
    format = get_format(name, Options(max_fragments=fragments))
    grammar = format.grammar(text, ("x",), Level.FAITHFUL)
    least = len(shortest_answer(vocabulary.matcher(grammar), grammar, vocabulary))
    for more in (10, 25, 45):
        budget = least + grammar.largest_growth + more
        write_away_from_the_end(grammar, vocabulary, budget, f"{name}/{more}")


def test_recorded_probabilities_are_those_of_the_model(tiny_model: LoadedModel) -> None:
    grammar = grammar_of(FORMATS["multi_triple"])
    prompt = tiny_model.encode(
        Conversation(FORMATS["multi_triple"], TEXT, Target(LABELS)).messages()
    )
    # Far from its end the budget takes no part in the mask.
    answer = generate(tiny_model, [prompt], [600], [grammar], record=True)[0]
    assert len(answer.steps) == len(answer.tokens)
    matcher = tiny_model.vocabulary.matcher(grammar)
    model: Any = tiny_model.steerable.model
    for i, recorded in enumerate(answer.steps[:10]):
        ids = [*prompt, *answer.tokens[:i]]
        with torch.inference_mode():
            log_probability = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
        allowed = torch.from_numpy(tiny_model.vocabulary.allowed(matcher))
        kept = log_probability[allowed].exp().sum().item()
        assert recorded.token == answer.tokens[i]
        assert recorded.free == pytest.approx(log_probability[recorded.token].item(), abs=1e-3)
        assert recorded.allowed_mass == pytest.approx(kept, abs=1e-3)
        assert recorded.free is not None
        assert recorded.masked >= recorded.free
        matcher.consume_token(recorded.token)


def test_recording_changes_no_answer(tiny_model: LoadedModel) -> None:
    grammars = [grammar_of(format) for format in FORMATS.values()]
    prompts = [[5 + i, 9, 11] for i in range(len(grammars))]
    budgets = [100 + len(tiny_model.vocabulary.tokenize(g.empty)) for g in grammars]
    plain = generate(tiny_model, prompts, budgets, grammars)
    recorded = generate(tiny_model, prompts, budgets, grammars, record=True)
    assert [a.tokens for a in plain] == [a.tokens for a in recorded]
    assert all(0 < (s.allowed_mass or 0) <= 1 for a in recorded for s in a.steps)


def test_tokens_of_texts_are_not_kept_for_ever() -> None:
    _, vocabulary = small_vocabulary()
    for number in range(10_000):
        vocabulary.tokenize(f"{number}. pain")
    assert vocabulary._tokens_of_piece.cache_info().currsize < 10_000


def test_judge_sees_faults(vocabulary: Vocabulary) -> None:
    """The judge of `always_parses` is no rubber stamp."""
    rng = random.Random(3)
    while (task := draw_task(rng, "multi_term")).level is not Level.FAITHFUL:
        pass
    end = vocabulary.ends[0]
    good = [*vocabulary.tokenize("Answer: []"), end]
    assert judge(task, good, len(good), vocabulary) is None
    assert judge(task, good, len(good) - 1, vocabulary)
    assert judge(task, good[:-1], 99, vocabulary)
    assert judge(task, [*vocabulary.tokenize("Answer: ["), end], 99, vocabulary)
    label = task.labels[0].replace("\\", "\\\\").replace('"', '\\"')
    foreign = f'Answer: [{{"text": "zebra", "type": "{label}"}}]'
    assert "not in the text" in str(
        judge(task, [*vocabulary.tokenize(foreign), end], 99, vocabulary)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("beyond", [0, 1, 70])
def test_logits_wider_than_the_vocabulary(
    vocabulary: Vocabulary, dtype: torch.dtype, beyond: int
) -> None:
    grammars = [grammar_of(FORMATS["single_term"])] * 2
    processor = GrammarLogitsProcessor(vocabulary, grammars)
    width = vocabulary.ll_tokenizer.vocab_size
    logits = torch.zeros(2, width + beyond, dtype=dtype)
    logits[:, width:] = 1.0
    masked = processor(torch.zeros(2, 3, dtype=torch.long), logits)
    assert masked.shape == (2, width + beyond)
    allowed = vocabulary.allowed(vocabulary.matcher(grammars[0]))
    assert masked[1].isfinite().nonzero()[:, 0].tolist() == allowed.tolist()


@pytest.mark.parametrize(("name", "opened"), [("single_tag", "@@"), ("multi_tag", "<finding>")])
@pytest.mark.parametrize("before", ["", "a", "@", "[@", "#", "\\\\", "<", "</finding"])
def test_a_tag_just_opened_is_soon_closed(
    name: str, opened: str, before: str, vocabulary: Vocabulary
) -> None:
    """At the syntax level, where the answer is no copy of the text: by no more than it has room."""
    format = FORMATS[name]
    grammar = grammar_of(format, Level.SYNTAX, "knee, " * 60)
    for written in (f"Answer: ?{before}", f"Answer: ?{before} {opened}"):
        matcher = vocabulary.matcher(grammar)
        tokens = vocabulary.tokenize(written)
        assert matcher.consume_tokens(tokens), written
        plan = complete(matcher, tokens, grammar, vocabulary)
        assert len(plan) <= 1 + len("x") + sum(len(closes) for _, closes in grammar.markers)


def test_a_row_that_fails_is_counted_and_costs_no_other(vocabulary: Vocabulary) -> None:
    """Of `always_parses`."""
    calls = iter(range(10_000))

    def mind(rng: torch.Generator, step: int) -> torch.Tensor:
        logits = torch.randn(vocabulary.size, generator=rng)
        return torch.full_like(logits, -torch.inf) if next(calls) == 0 else logits

    grammars = [grammar_of(FORMATS["single_term"])] * 2
    rng = torch.Generator().manual_seed(0)
    failed, written = decode_each(vocabulary, grammars, [40, 40], mind, rng, sample=False)
    assert isinstance(failed, str)
    assert "a probability above zero" in failed
    assert not isinstance(written, str)
    assert reject(grammars[1], vocabulary.text_of(written)) is None


def test_an_answer_is_over_whether_or_not_generation_knows_its_end(
    tiny_model: LoadedModel,
) -> None:
    format = FORMATS["multi_term"]
    processor = GrammarLogitsProcessor(tiny_model.vocabulary, [grammar_of(format)], [40])
    bare: Any = tiny_model.steerable.model
    other = tiny_model.tokenizer.pad_token_id
    assert other not in tiny_model.vocabulary.ends
    found = bare.generate(
        torch.tensor([[5, 6, 7]]),
        attention_mask=torch.ones(1, 3, dtype=torch.long),
        logits_processor=LogitsProcessorList([processor]),
        max_new_tokens=60,
        eos_token_id=other,
        pad_token_id=other,
        do_sample=False,
    )
    assert found.shape == (1, 63)
    answer = tiny_model.tokenizer.decode(found[0, 3:], skip_special_tokens=True)
    format.decode(answer, TEXT, LABELS)  # strictly
