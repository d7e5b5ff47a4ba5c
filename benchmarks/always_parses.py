"""Do masked answers always parse, whatever the model prefers and whatever the budget?

    python -m benchmarks.always_parses --decodes 200000 -o benchmarks/results/always_parses.json

Each decode draws a *kind* of input (`KINDS`: long words, runs of white space or punctuation, many
and long labels, repeats, special tokens as text, ...), of that kind a text and labels, a format, a
level, options, a budget (from the shortest answer up to twenty tokens more, now and then up to 300
more, or about the largest growth that the grammar promises) and a *mind*: a source of logits that
knows no language and wishes the grammar ill. One batch in eight is decoded by a small random model
and drafts, as `cner predict` does it, two threads sharing the model. A decode passes where the
answer

- was ended by the grammar, within its budget,
- is read strictly by lark, while llguidance made the masks,
- uses only labels asked for, and, at the faithful level, only pieces of the text,
- holds, once settled, each entity once, in text order, and settles to itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from constrained_ner.documents import text_order
from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.completion import shortest_answer
from constrained_ner.engines.models import LanguageModel, wrap
from constrained_ner.engines.processor import GrammarLogitsProcessor
from constrained_ner.engines.speculative import SpeculativeEngine
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import DecodingError, GrammarError
from constrained_ner.formats import FORMATS, Format, Options, ProblemKind, get_format
from constrained_ner.formats.grammar import Grammar, Level
from constrained_ner.words import on_boundaries, one_line

CHUNK = 480  # decodes of one seed, forty for each format
MODEL = "a model, with drafts"

# ---- a small vocabulary -------------------------------------------------------------------------

CORPUS = [
    "Answer: [] [{ } ] \n ```py def named_entity_recognition(input_text): entity_list = []",
    'Answer: [{"text": "left knee pain", "type": "finding"}, {"span": [0, 14], "type": "gene"}]',
    "Layer 1: O O O B-gene I-gene O\nLayer 2: O O B-finding",
    "<gene>CD28</gene> @@left ##right #### @@@@ is a; gene\nT1 finding 0 4;15 24 left knee pain",
    "the left and right knee pain of alpha and beta cells in the colon cancer patients",
]


def small_vocabulary(tokens: int = 400) -> tuple[PreTrainedTokenizerFast, Vocabulary]:
    """A byte-level tokenizer with few merges, and an end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS * 4,
        trainers.BpeTrainer(
            vocab_size=tokens,
            special_tokens=["<end>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    wrapper: Any = PreTrainedTokenizerFast
    fast = wrapper(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    # Wider than the tokenizer, as the vocabularies of real models are.
    return fast, Vocabulary.of(fast, len(fast) + 37, [fast.eos_token_id])


def tiny_llama(seed: int = 0, context: int = 2048, tokenizer: Any = None) -> tuple[Any, Any]:
    """A randomly initialised Llama, its vocabulary wider than its tokenizer's."""
    tokenizer = tokenizer or small_vocabulary()[0]
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + 37,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=context,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            initializer_range=0.6,  # far from uniform: it has its preferences
        )
    )
    return model.eval(), tokenizer


# ---- what is drawn ------------------------------------------------------------------------------

PIECES = [
    *("left", "right", "knee", "pain", "CD28", "IL-2", "colon", "cancer", "a", "B6", "x"),
    *(" ", " ", " ", " ", "-", "/", ".", ",", ";", "(", ")", "  ", "\n", "\r\n", "\t", "\u2028"),
    *('"', "\\", "'", "`", "```", "[", "]", "{", "}", "<", ">", "@", "#", "@@", "##", "; is a; "),
    *("<gene>", "</gene>", "\\<gene>", "\\@@", "é", "e\u0301", "İ", "α", "β", "😀", "👩\u200d🔬"),
    *("\u200b", "\u202e", "שלום", "مرحبا", "\x07", "\x1f", "0", "1", "42", "Layer 1: O", "T1 gene"),
]
LABELS = [
    *("gene", "finding", "gene_product", "cell type", "a/b", 'say "x"', "50%", "%20", "O", "B-x"),
    *("<gene>", "Größe", "蛋白", "a;b", "back\\slash", "#", "@@", "]"),
]


# Few sets, since lark builds a parser for each.
LABEL_SETS = [(label,) for label in LABELS] + [
    tuple(random.Random(i).sample(LABELS, 2 + i % 4)) for i in range(16)
]


# Sets of many labels, and of long ones: where they become slugs, up to 12 bytes a character.
MANY = [tuple(f"label {i}" for i in range(count)) for count in (40, 150)]
LONG = ["😀" * 20, "蛋白質" * 20, "x" * 150, "<" * 40]


def draw_text(rng: random.Random) -> str:
    while True:
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14)))
        if text.strip():
            return text


Drawn = tuple[str, tuple[str, ...]]  # a text, labels


def plain(rng: random.Random, one_label: bool) -> Drawn:
    sets = LABEL_SETS[: len(LABELS)] if one_label else LABEL_SETS[12:]
    return draw_text(rng), rng.choice(sets)


def with_inside(rng: random.Random, one_label: bool, middle: str) -> Drawn:
    text, labels = plain(rng, one_label)
    at = rng.randint(0, len(text))
    return text[:at] + middle + text[at:], labels


def long_word(rng: random.Random, one_label: bool) -> Drawn:
    letters = rng.choice(["ACGT", "MKVLAGETWY", "蛋白質", "x"])
    middle = "".join(rng.choices(letters, k=rng.randint(200, 1500)))
    return with_inside(rng, one_label, middle)


def white_space(rng: random.Random, one_label: bool) -> Drawn:
    return with_inside(rng, one_label, rng.choice([" ", "\t", "\n", " \t"]) * rng.randint(30, 300))


def repeats(rng: random.Random, one_label: bool) -> Drawn:
    some = [draw_text(rng), "a", "a b", "knee,", "left knee", "x\tx"]
    text = " ".join([rng.choice(some)] * rng.randint(10, 120))[:400]
    return text, plain(rng, one_label)[1]


def many_labels(rng: random.Random, one_label: bool) -> Drawn:
    text, labels = plain(rng, one_label)
    return text, labels if one_label else rng.choice(MANY)


def long_labels(rng: random.Random, one_label: bool) -> Drawn:
    text, _ = plain(rng, one_label)
    return text, tuple(rng.sample(LONG, 1 if one_label else rng.randint(1, 3)))


def runs(rng: random.Random, one_label: bool) -> Drawn:
    """A piece may end behind each character: a fragment could go on for long."""
    run = rng.choice(["\N{BULLET}", ".", "+-", "，。", "发热，", "a ."]) * rng.randint(20, 150)
    return with_inside(rng, one_label, run)


def special_tokens(rng: random.Random, one_label: bool) -> Drawn:
    """What reads like a token that ends answers, or pads them, and is text."""
    return with_inside(rng, one_label, rng.choice(["<end>", "<pad>"]) * rng.randint(1, 12))


Kind = Callable[[random.Random, bool], Drawn]
# With how often each is drawn. Long answers take long.
KINDS: dict[str, tuple[Kind, int]] = {
    "plain": (plain, 60),
    "no room": (plain, 15),  # a budget of the shortest answer, or a token or two more
    "long word": (long_word, 2),
    "white space": (white_space, 5),
    "repeats": (repeats, 6),
    "runs": (runs, 4),
    "special tokens": (special_tokens, 3),
    "about the bound": (plain, 8),  # a budget within which an item can just be closed
    "many labels": (many_labels, 4),
    "long labels": (long_labels, 8),
}


@dataclass(frozen=True)
class Task:
    """One answer to decode."""

    format: Format
    level: Level
    text: str
    labels: tuple[str, ...]
    grammar: Grammar
    kind: str = "plain"


def draw_task(rng: random.Random, name: str, kind: str = "plain") -> Task:
    level = rng.choice([Level.SYNTAX, Level.FAITHFUL])
    fragments = rng.choice([1, 1, 1, 2, 3])
    while True:
        text, labels = KINDS[kind][0](rng, FORMATS[name].one_label)
        solid = len([unit for unit in text.split() if unit])
        options = Options(
            boundaries=rng.choice(["word", "word", "character"]),
            max_fragments=fragments if name != "multi_brat" or solid >= 3 else 1,
            anchor=rng.choice(["surface", "offsets"]),
            words=rng.choice(["space", "fine"]),
        )
        format = get_format(name, options)
        try:
            return Task(format, level, text, labels, format.grammar(text, labels, level), kind)
        except GrammarError as error:
            if "shorter text" not in str(error):
                raise


# ---- minds --------------------------------------------------------------------------------------

Mind = Callable[[torch.Generator, int], torch.Tensor]


def minds(vocabulary: Vocabulary) -> dict[str, Mind]:
    """Sources of logits, [vocabulary], for one step of one row."""
    pieces = [vocabulary.bytes_of([i]) for i in range(vocabulary.engine.vocab_size)]

    def bias(wanted: Callable[[bytes], bool], strength: float) -> torch.Tensor:
        found = torch.tensor([strength * wanted(piece) for piece in pieces])
        return found[: vocabulary.size]

    opens = bias(lambda p: any(c in p for c in b"{[,<@B\n;") and b"</" not in p, 6.0)
    closes = bias(lambda p: any(c in p for c in b']}"#`>') or b"</" in p or p == b"\n", -8.0)
    ends = torch.zeros(vocabulary.size)
    ends[list(vocabulary.ends)] = -30.0
    digits = bias(lambda p: p.isdigit(), 6.0)
    long = torch.tensor([float(len(piece)) for piece in pieces])[: vocabulary.size]

    same = torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(1)) * 5

    def noise(rng: torch.Generator) -> torch.Tensor:
        return torch.randn(vocabulary.size, generator=rng)

    return {
        "uniform": lambda rng, step: torch.rand(vocabulary.size, generator=rng) * 1e-3,
        "opens": lambda rng, step: noise(rng) + opens + ends,
        "never closes": lambda rng, step: noise(rng) + closes + ends,
        "digits": lambda rng, step: noise(rng) + digits + ends,
        "long tokens": lambda rng, step: noise(rng) + long + ends,
        "eager to end": lambda rng, step: noise(rng) - ends,
        "the same again": lambda rng, step: noise(rng) + same + ends,
    }


# ---- decoding and judging -----------------------------------------------------------------------


def decode(
    vocabulary: Vocabulary,
    grammars: list[Grammar],
    budgets: list[int],
    mind: Mind,
    rng: torch.Generator,
    sample: bool,
) -> list[list[int]]:
    """Answers' tokens, decoded in one batch by the logits of a mind."""
    processor = GrammarLogitsProcessor(vocabulary, grammars, budgets, candidates=4 if sample else 1)
    rows = len(grammars)
    ids = torch.randint(vocabulary.size, (rows, 3), generator=rng)  # a prompt of three tokens
    finished = torch.zeros(rows, dtype=torch.bool)
    for step in range(max(budgets)):
        logits = torch.stack([mind(rng, step) for _ in range(rows)])
        scores = processor(ids, logits)
        if sample:
            token = torch.multinomial(scores.softmax(-1), 1, generator=rng)[:, 0]
        else:
            token = scores.argmax(-1)
        token = torch.where(finished, 1, token)  # padding, as transformers does it
        ids = torch.cat([ids, token.unsqueeze(1)], dim=1)
        finished |= torch.isin(token, torch.tensor(vocabulary.ends))
        if finished.all():
            break
    answers = ids[:, 3:].tolist()
    ends = [next((k for k, t in enumerate(a) if t in vocabulary.ends), len(a)) for a in answers]
    return [answer[: end + 1] for answer, end in zip(answers, ends, strict=True)]


def decode_each(
    vocabulary: Vocabulary,
    grammars: list[Grammar],
    budgets: list[int],
    mind: Mind,
    rng: torch.Generator,
    sample: bool,
) -> list[list[int] | str]:
    """The same, or what failed: a row that fails ends its batch; the others go on alone."""
    try:
        return [*decode(vocabulary, grammars, budgets, mind, rng, sample)]
    except DecodingError as error:
        found: list[list[int] | str] = []
        for i, (grammar, budget) in enumerate(zip(grammars, budgets, strict=True)):
            if i == error.row:
                found.append(str(error))
            else:
                found += decode_each(vocabulary, [grammar], [budget], mind, rng, sample)
        return found


@cache
def small_model(seed: int) -> LanguageModel:
    return wrap("tiny", *tiny_llama(seed))


def decode_with_drafts(
    model: LanguageModel, tasks: list[Task], budgets: list[int], rng: random.Random
) -> list[list[int] | str]:
    """Answers' tokens, or what failed, of a model; every other one in a thread of its own."""
    prompts = [rng.choices(range(model.vocabulary.size), k=3) for _ in tasks]
    temperature, seed = rng.choice([0.0, 1.0]), rng.randrange(1000)

    def answers(first: int) -> dict[int, list[int] | str]:
        waiting = [
            Request(
                prompts[i],
                budgets[i],
                tasks[i].grammar,
                kind=tasks[i].format.name,
                propose_draft=partial(tasks[i].format.propose_draft, text=tasks[i].text),
                key=i,
            )
            for i in range(first, len(tasks), 2)
        ]
        engine = SpeculativeEngine(model, 3, temperature=temperature, seed=seed)
        found = engine.decode(lambda: waiting.pop() if waiting else None)
        return {
            request.key: list(answer.tokens) if isinstance(answer, Answer) else str(answer)
            for request, answer in found
        }

    with ThreadPoolExecutor(2) as threads:
        every = {key: value for half in threads.map(answers, (0, 1)) for key, value in half.items()}
    return [every[i] for i in range(len(tasks))]


def judge(task: Task, tokens: list[int], budget: int, vocabulary: Vocabulary) -> str | None:
    """What is wrong with an answer; None where it keeps every promise."""
    if len(tokens) > budget:
        return f"{len(tokens)} tokens with a budget of {budget}"
    if tokens[-1] not in vocabulary.ends:
        return "not ended by the grammar"
    answer = vocabulary.text_of(tokens)
    try:
        decoded = task.format.decode(answer, task.text, task.labels, level=task.level)
        settled = task.format.settle(answer, task.text, task.labels, task.level)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if any(entity.label not in task.labels for entity in decoded.entities):
        return "a label that was not asked for"
    if settled.entities != text_order(settled.entities):
        return "settled, but not in text order or not once each"
    again = task.format.settle(settled.answer, task.text, task.labels, task.level)
    if again.answer != settled.answer:
        return f"settles to something else: {again.answer!r}"
    if task.level is Level.FAITHFUL:
        bad = [p for p in settled.problems if p.kind is not ProblemKind.DUPLICATE]
        if bad:
            return f"unfaithful: {bad[0].kind}: {bad[0].detail}"
        for entity in decoded.entities:
            if not all(
                on_boundaries(s, e, task.text, task.format.options.boundaries)
                for s, e in entity.fragments
            ):
                return f"off the boundaries: {entity}"
            if len(entity.fragments) > task.format.options.max_fragments:
                return f"too many fragments: {entity}"
            for start, end in entity.fragments:
                piece = one_line(task.text[start:end])
                if piece != piece.strip():
                    return f"white space at the edge of {piece!r}"
    return None


@dataclass(frozen=True)
class Result:
    """One decode, judged."""

    task: Task
    mind: str
    budget: int
    shortest: int
    answer: str
    fault: str | None


def run(
    decodes: int, seed: int, names: list[str], batch: int = 8, kinds: Sequence[str] = ("plain",)
) -> Iterator[Result]:
    """Decode and judge, in batches of one format, one kind and one mind."""
    rng, torch_rng = random.Random(seed), torch.Generator().manual_seed(seed)
    _, vocabulary = small_vocabulary()
    sources = minds(vocabulary)
    done = 0
    while done < decodes:
        name = names[done // batch % len(names)]
        kind = rng.choices(kinds, [KINDS[kind][1] for kind in kinds])[0]
        mind = rng.choice([*sources, MODEL])
        tasks = [draw_task(rng, name, kind) for _ in range(min(batch, decodes - done))]
        shortest = [
            len(shortest_answer(vocabulary.matcher(t.grammar), t.grammar, vocabulary))
            for t in tasks
        ]
        if kind == "no room":
            extra = [rng.choice([0, 0, 1, 2]) for _ in tasks]
        elif kind in ("about the bound", "runs"):
            extra = [max(0, t.grammar.largest_growth + rng.randint(-10, 40)) for t in tasks]
        else:
            extra = [
                rng.randint(0, 20) if rng.random() < 0.85 else rng.randint(20, 300) for _ in tasks
            ]
        budgets = [s + x for s, x in zip(shortest, extra, strict=True)]
        answers: Sequence[list[int] | str]
        if mind == MODEL:
            answers = decode_with_drafts(small_model(rng.randrange(4)), tasks, budgets, rng)
        else:
            grammars = [task.grammar for task in tasks]
            sample = rng.random() < 0.5
            answers = decode_each(vocabulary, grammars, budgets, sources[mind], torch_rng, sample)
        for task, tokens, budget, least in zip(tasks, answers, budgets, shortest, strict=True):
            if isinstance(tokens, str):
                yield Result(task, mind, budget, least, "", tokens)
                continue
            fault = judge(task, tokens, budget, vocabulary)
            yield Result(task, mind, budget, least, vocabulary.text_of(tokens), fault)
        done += len(tasks)


Verdicts = Counter[tuple[str, str, str, bool]]  # format, level, kind, whether it failed


def counted(decodes: int, seed: int, names: list[str]) -> tuple[Verdicts, list[dict[str, Any]]]:
    """How many passed and failed, and what there is to say of those that failed."""
    counts: Verdicts = Counter()
    faults: list[dict[str, Any]] = []
    for result in run(decodes, seed, names, kinds=list(KINDS)):
        task = result.task
        counts[task.format.name, str(task.level), task.kind, result.fault is not None] += 1
        if result.fault:
            faults.append(
                {
                    "format": task.format.name,
                    "level": str(task.level),
                    "kind": task.kind,
                    "options": str(task.format.options),
                    "mind": result.mind,
                    "text": task.text,
                    "labels": task.labels,
                    "budget": result.budget,
                    "shortest": result.shortest,
                    "answer": result.answer,
                    "fault": result.fault,
                }
            )
    return counts, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--decodes", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--format", choices=list(FORMATS), action="append")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    started = perf_counter()
    names = arguments.format or list(FORMATS)
    counts: Verdicts = Counter()
    faults: list[dict[str, Any]] = []
    sizes = [min(CHUNK, arguments.decodes - start) for start in range(0, arguments.decodes, CHUNK)]
    seeds = [arguments.seed * 1_000_000 + i for i in range(len(sizes))]
    # What is decoded hangs on the seed and not on how many processes there are.
    with ProcessPoolExecutor(
        arguments.processes, get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        for some, failed in pool.map(counted, sizes, seeds, [names] * len(sizes)):
            counts += some
            faults += failed
            for fault in failed:
                print(json.dumps(fault, ensure_ascii=False), file=sys.stderr)
            seconds = perf_counter() - started
            print(f"{counts.total()} decodes, {len(faults)} failed, {seconds:.0f} s", flush=True)

    def row(**wanted: str) -> dict[str, Any]:
        chosen = [
            (key[3], count) for key, count in counts.items() if set(wanted.values()) <= set(key[:3])
        ]
        return {
            **wanted,
            "decodes": sum(count for _, count in chosen),
            "failed": sum(count for failed, count in chosen if failed),
        }

    rows = [
        row(format=name, level=str(level))
        for name in names
        for level in (Level.SYNTAX, Level.FAITHFUL)
    ]
    by_kind = [row(kind=kind) for kind in KINDS]
    for line in rows + by_kind:
        *what, decodes, failed = line.values()
        print(f"{' '.join(what):<24} {decodes:>7} decodes, {failed} failed")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        packages = ("constrained_ner", "llguidance", "lark", "outlines", "torch", "transformers")
        arguments.output.write_text(
            json.dumps(
                {
                    "decodes": arguments.decodes,
                    "seed": arguments.seed,
                    "versions": {name: version(name) for name in packages},
                    "python": platform.python_version(),
                    "seconds": round(perf_counter() - started),
                    "rows": rows,
                    "kinds": by_kind,
                    "faults": faults,
                },
                ensure_ascii=False,
                indent=1,
            )
            + "\n"
        )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
