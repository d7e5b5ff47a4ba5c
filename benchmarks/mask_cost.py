"""What does a mask cost?

    python -m benchmarks.mask_cost -o benchmarks/results/mask_cost.json

Three parts, all on one machine in one run:

1. *formats*: building the grammar of one text, building its matcher, and the mask of each token,
   while an answer that holds several entities of the text is replayed.
2. *peers*: one whole call of a logits processor (the state brought up to date, the mask made and
   put on random logits) for ours and for other libraries, on the one grammar that all of them can
   express: multi_term at the syntax level, the same for the whole batch.
3. *model*: one step of the default model at batch 8, and our processor as a share of it.

Nothing is generated: `input_ids` grows by one token of a known answer at a time, and each token is
checked to be let through, outside of the time taken. Peers take turns within each round, so that
what else the machine does falls on all of them; ratios are taken within a round. Masks are timed
with torch on `--threads` threads, the model on all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
import transformers
from llguidance.numpy import fill_next_token_bitmask
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from constrained_ner.atomic import write_json
from constrained_ner.documents import Document, Entity
from constrained_ner.engines.kv_cache import cache_argument
from constrained_ner.engines.models import LoadedModel, load_model
from constrained_ner.engines.processor import GrammarLogitsProcessor
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import GrammarError
from constrained_ner.formats import FORMATS, Format, get_format
from constrained_ner.formats.grammar import Grammar, Level
from tests.support.models import small_vocabulary

from .machine import circumstances, quantile

LABELS = ("disease", "gene", "chemical", "cell_type", "finding")
FAR = 100_000  # a budget whose end is never near
PACKAGES = (
    *("constrained_ner", "llguidance", "lm-format-enforcer", "numpy", "outlines", "outlines_core"),
    *("torch", "transformers", "xgrammar"),
)

# ---- texts and answers --------------------------------------------------------------------------

LISTED = (
    "the of and in with to patients expression cells was were by for that is from after activated "
    "lymphocytes BCL6 CD28-mediated colon cancer IL-2 receptor levels increased treatment showed "
    "left knee pain metformin fasting glucose hepatitis transcription factor NF-kappaB binding "
    "mutant mice tumour necrosis type 2 diabetes (MELAS) p53 response clinical aspirin renal "
    "failure dose-dependent inhibition human T-cell leukaemia protein kinase 0.05 acute chronic"
)

WORDS = LISTED.split()


def draw_document(rng: random.Random, words: int, labels: Sequence[str]) -> Document:
    """A text of so many words, and an entity of one to three words for every eight of them."""
    drawn = [rng.choice(WORDS) for _ in range(words)]
    starts = [0]
    for word in drawn:
        starts.append(starts[-1] + len(word) + 1)
    entities = set()
    for first in range(0, words - 8, 8):
        begin = first + rng.randrange(5)
        last = begin + rng.randrange(3)
        span = starts[begin], starts[last] + len(drawn[last])
        entities.add(Entity(rng.choice(labels), (span,)))
    return Document(f"{words} words", " ".join(drawn), tuple(entities))


def expressed(format: Format, document: Document, labels: Sequence[str]) -> Document:
    """The document with those entities alone that every level of the format can write."""
    kept, _ = format.expressible(document, labels, Level.FAITHFUL)
    return Document(document.id, document.text, kept)


def labels_of(format: Format) -> tuple[str, ...]:
    return LABELS[:1] if format.one_label else LABELS


def microseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {
        "median": round(1e6 * statistics.median(seconds), 1),
        "p99": round(1e6 * quantile(seconds, 0.99), 1),
    }


# ---- 1. formats ---------------------------------------------------------------------------------


def measure_format(
    vocabulary: Vocabulary, name: str, level: Level, words: int, repetitions: int, seed: int
) -> dict[str, Any]:
    """Building and masking for one format, level and length of text; a new text each time."""
    rng = random.Random(f"{seed} {words}")  # the same texts for every format
    format, labels = get_format(name), labels_of(FORMATS[name])
    mask = np.zeros((1, (vocabulary.ll_tokenizer.vocab_size + 31) // 32), dtype=np.int32)
    bits = mask.view(np.uint8)[0]
    sources, matchers, masks, advances = [], [], [], []
    sizes, tokens, entities = [], [], []
    # What a process keeps after its first text: the structure, the labels' part of the grammar.
    format.grammar("some other text", labels, level)
    for _ in range(repetitions):
        document = expressed(format, draw_document(rng, words, labels), labels)
        answer = vocabulary.tokenize(format.encode(document, labels, level))
        started = perf_counter()
        grammar = format.grammar(document.text, labels, level)
        sources.append(perf_counter() - started)
        started = perf_counter()
        matcher = vocabulary.matcher(grammar)
        matchers.append(perf_counter() - started)
        for i, token in enumerate([*answer, vocabulary.ends[0]]):
            started = perf_counter()
            fill_next_token_bitmask(matcher, mask, 0)
            masks.append(perf_counter() - started)
            if not bits[token // 8] >> token % 8 & 1:
                raise SystemExit(f"{name}, {level}: token {i} of a gold answer is masked")
            if i < len(answer):
                started = perf_counter()
                matcher.consume_token(token)
                advances.append(perf_counter() - started)
        sizes.append(len(grammar.source.encode()))
        tokens.append(len(answer) + 1)
        entities.append(len(document.entities))
    return {
        "format": name,
        "level": str(level),
        "words": words,
        "labels": len(labels),
        "repetitions": repetitions,
        "entities": statistics.median(entities),
        "tokens": statistics.median(tokens),
        "masks": len(masks),
        "source_us": microseconds(sources),
        "matcher_us": microseconds(matchers),
        "mask_us": microseconds(masks),
        "advance_us": microseconds(advances),
        "grammar_bytes": statistics.median(sizes),
    }


def measure_formats(
    vocabulary: Vocabulary, lengths: Sequence[int], repetitions: int, seed: int
) -> Iterator[dict[str, Any]]:
    for words in lengths:
        for name in FORMATS:
            for level in (Level.SYNTAX, Level.FAITHFUL):
                try:
                    yield measure_format(vocabulary, name, level, words, repetitions, seed)
                except GrammarError as error:
                    yield {
                        "format": name,
                        "level": str(level),
                        "words": words,
                        "error": str(error).splitlines()[0],
                    }


# ---- 2. peers -----------------------------------------------------------------------------------

Processor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class Peer:
    """A library's way to make a logits processor for multi_term at the syntax level.

    Attributes
    ----------
    start: a processor for a batch of this size that has seen nothing yet.
    prefix: what its answers begin with, before the list.
    apart: where an answer is cut before it is tokenised, for a peer that masks the tokenizer's own
        tokens there.
    setup_s: what was built once, before the first batch.
    """

    name: str
    start: Callable[[int], Any]
    note: str
    prefix: str = "Answer: "
    apart: str = "$"
    setup_s: float = 0.0

    def tokens(self, answer: str, vocabulary: Vocabulary) -> list[int]:
        """The tokens to replay for an answer of ours."""
        pieces = re.split(self.apart, self.prefix + answer.removeprefix("Answer: "))
        return [token for piece in pieces for token in vocabulary.tokenize(piece)]


def ours(vocabulary: Vocabulary) -> Peer:
    grammar = syntax_grammar()

    def start(batch: int) -> Any:
        return GrammarLogitsProcessor(vocabulary, [grammar] * batch)

    start(1)  # imports what torch needs
    return Peer("constrained_ner", start, "one grammar a row")


def syntax_grammar() -> Grammar:
    return get_format("multi_term").grammar("no matter", LABELS, Level.SYNTAX)


def outlines_llguidance(model: LoadedModel) -> Peer:
    from outlines.backends import get_cfg_logits_processor

    processor: Any = get_cfg_logits_processor(
        "llguidance", model.steerable, syntax_grammar().source
    )

    def start(batch: int) -> Any:
        processor.reset()
        return processor

    return Peer("outlines, llguidance", start, "our grammar source")


CHARACTER = r'([^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00(0[0-7bef]|1[0-9a-f]))'


def outlines_core(model: LoadedModel) -> Peer:
    from outlines.backends import get_regex_logits_processor

    labels = "|".join(LABELS)
    item = rf'\{{"text": "{CHARACTER}+", "type": "({labels})"\}}'
    processor: Any = get_regex_logits_processor(
        "outlines_core", model.steerable, rf"Answer: \[({item}(, {item})*)?\]"
    )

    def start(batch: int) -> Any:
        processor.reset()
        return processor

    return Peer("outlines, outlines_core", start, "a regular expression for the same answers")


def xgrammar(tokenizer: Any, vocabulary: Vocabulary) -> Peer:
    import xgrammar as xgr
    from xgrammar.contrib.hf import LogitsProcessor

    labels = " | ".join(json.dumps(f'"{label}"') for label in LABELS)
    # With `character+` in place of the right recursion a mask inside a string takes milliseconds.
    source = rf"""
root ::= "Answer: [" (item (", " item)*)? "]"
item ::= "{{\"text\": \"" text "\", \"type\": " label "}}"
text ::= [^"\\\x00-\x1f] rest | escape rest
rest ::= "" | [^"\\\x00-\x1f] rest | escape rest
escape ::= "\\" ["\\bfnrt] | "\\u00" ("0" [0-7bef] | "1" [0-9a-f])
label ::= {labels}
"""
    tokens = xgr.TokenizerInfo.from_huggingface(
        tokenizer, vocab_size=vocabulary.size, stop_token_ids=list(vocabulary.ends)
    )
    compiled = xgr.GrammarCompiler(tokens).compile_grammar(source)
    return Peer("xgrammar", lambda batch: LogitsProcessor(compiled), "EBNF for the same answers")


def lm_format_enforcer(tokenizer: Any, vocabulary: Vocabulary) -> Peer:
    # The integration imports a name from where transformers 4 had it.
    place = "transformers.tokenization_utils"
    if not hasattr(import_module(place), "PreTrainedTokenizerBase"):
        stand_in: Any = types.ModuleType(place)
        stand_in.PreTrainedTokenizerBase = transformers.PreTrainedTokenizerBase
        sys.modules[place] = stand_in
    from lmformatenforcer import JsonSchemaParser
    from lmformatenforcer.integrations import transformers as integration

    data = integration.build_token_enforcer_tokenizer_data(tokenizer, vocab_size=vocabulary.size)
    schema = get_format("multi_term").schema(LABELS)
    # Kept for all batches, since it remembers the tokens allowed in each state.
    allowed = integration.build_transformers_prefix_allowed_tokens_fn(
        data, JsonSchemaParser(schema)
    )

    def start(batch: int) -> Any:
        # It remembers whole answers, too, which would be replayed from memory, and fills gigabytes.
        allowed.token_enforcer.prefix_states.clear()
        return PrefixConstrainedLogitsProcessor(allowed, 1)

    return Peer(
        "lm-format-enforcer",
        start,
        "JSON schema, free white space and order of keys; the answer without `Answer: `, and `)` "
        'as a token of its own, since it masks `)",`; its integration needs transformers 4 and was '
        "imported with a stand-in for a name",
        prefix="",
        apart=r"(?<=\))",
    )


@dataclass
class Times:
    """What one peer took at one size of batch, in seconds.

    Attributes
    ----------
    warm_up_s: a first run, which is not counted below.
    first: for each round, what was made for the batch, and the first call.
    rounds: the calls after that.
    """

    warm_up_s: float
    first: list[float] = field(default_factory=list)
    rounds: list[list[float]] = field(default_factory=list)


def replay(
    processor: Processor,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    logits: torch.Tensor,
) -> list[float]:
    """Seconds of each call; all rows are fed until the shortest answer has no more tokens.

    Parameters
    ----------
    logits: [rows, vocabulary]; each call gets a copy.
    """
    ids = torch.tensor([list(p) for p in prompts])
    fed = torch.tensor([a[: min(map(len, answers))] for a in answers])  # [rows, tokens]
    seconds = []
    with torch.inference_mode():
        for i in range(fed.shape[1]):
            scores = logits.clone()
            started = perf_counter()
            scores = processor(ids, scores)
            seconds.append(perf_counter() - started)
            chosen = scores.gather(1, fed[:, i : i + 1])
            if chosen.isneginf().any():
                row = int(chosen.isneginf().flatten().nonzero()[0])
                raise SystemExit(f"{processor} masks token {i} of row {row}, {fed[row, i]}")
            ids = torch.cat([ids, fed[:, i : i + 1]], dim=1)
    return seconds


def measure_peers(
    peers: Sequence[Peer], vocabulary: Vocabulary, batches: Sequence[int], rounds: int, seed: int
) -> Iterator[dict[str, Any]]:
    """The first of the peers is what the others are compared with."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    format = get_format("multi_term")
    for batch in batches:
        logits = torch.randn(batch, vocabulary.size, generator=generator)
        documents = [draw_document(rng, 25, LABELS) for _ in range(batch)]
        written = [format.encode(document, LABELS) for document in documents]
        times: dict[str, Times] = {}
        for turn in range(rounds + 1):
            # Each row its own prompt: none profits from what was remembered of another.
            prompts = [[1, row + 1] for row in range(batch)]
            for peer in [*peers[turn % len(peers) :], *peers[: turn % len(peers)]]:
                answers = [peer.tokens(answer, vocabulary) for answer in written]
                started = perf_counter()
                processor = peer.start(batch)
                built = perf_counter() - started
                seconds = replay(processor, prompts, answers, logits)
                if turn == 0:
                    times[peer.name] = Times(perf_counter() - started)
                else:
                    times[peer.name].first.append(built + seconds[0])
                    times[peer.name].rounds.append(seconds[1:])
        own = times[peers[0].name].rounds
        for peer in peers:
            found = times[peer.name]
            ratios = [
                statistics.median(a) / statistics.median(b)
                for a, b in zip(found.rounds, own, strict=True)
            ]
            yield {
                "peer": peer.name,
                "batch": batch,
                "rounds": rounds,
                "calls": sum(map(len, found.rounds)),
                "setup_s": round(peer.setup_s, 2),
                "warm_up_s": round(found.warm_up_s, 2),
                "start_us": microseconds(found.first)["median"],
                "call_us": {
                    "median": typical(found.rounds),
                    "mean": over_an_answer(found.rounds),
                    "p99": microseconds([s for r in found.rounds for s in r])["p99"],
                },
                "row_us": round(typical(found.rounds) / batch, 1),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_of_means": round(over_an_answer(found.rounds) / over_an_answer(own), 2),
                "tokens_faster_than_ours": tokens_faster(found.rounds, own),
                "note": peer.note,
            }


def typical(rounds: Sequence[Sequence[float]]) -> float:
    """Median over rounds of the median call, in microseconds."""
    return round(1e6 * statistics.median(statistics.median(r) for r in rounds), 1)


def over_an_answer(rounds: Sequence[Sequence[float]]) -> float:
    """Mean over the tokens of an answer, in microseconds, of each one's median over the rounds.

    What a whole answer costs, without the calls that something else interrupted.
    """
    return round(1e6 * statistics.fmean(map(statistics.median, zip(*rounds, strict=True))), 1)


def tokens_faster(
    rounds: Sequence[Sequence[float]], own: Sequence[Sequence[float]]
) -> float | None:
    """The share of an answer's tokens at which the median over the rounds is below our own.

    None where the answers are not made of the same tokens.
    """
    pairs = [[statistics.median(at) for at in zip(*found, strict=True)] for found in (rounds, own)]
    if len(pairs[0]) != len(pairs[1]):
        return None
    return round(statistics.fmean(a < b for a, b in zip(*pairs, strict=True)), 2)


def available_peers(
    tokenizer: Any, vocabulary: Vocabulary, model: LoadedModel | None
) -> Iterator[Peer]:
    """Ours first; those that are not installed, or need a model that is not there, are left out."""
    makers: list[tuple[str, Callable[[], Peer]]] = [("llguidance", lambda: ours(vocabulary))]
    if model is not None:
        makers += [
            ("outlines", lambda: outlines_llguidance(model)),
            ("outlines_core", lambda: outlines_core(model)),
        ]
    makers.append(("xgrammar", lambda: xgrammar(tokenizer, vocabulary)))
    if model is not None:
        makers.append(("lmformatenforcer", lambda: lm_format_enforcer(tokenizer, vocabulary)))
    for package, make in makers:
        if find_spec(package) is None:
            print(f"{package} is not installed: left out", file=sys.stderr)
            continue
        started = perf_counter()
        peer = make()
        peer.setup_s = perf_counter() - started
        yield peer


# ---- 3. a model's step --------------------------------------------------------------------------


class Steps:
    """Single steps of a model behind a context, one after the other."""

    def __init__(self, model: Any, batch: int, context: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(100, model.config.vocab_size, (batch, context), generator=generator)
        self.model = model
        with torch.inference_mode():
            self.argument = cache_argument(model)
            output = model(ids, use_cache=True, logits_to_keep=1)
            self.cache = getattr(output, self.argument)
        self.token = ids[:, -1:]

    def time(self) -> float:
        """Seconds of the next step."""
        with torch.inference_mode():
            started = perf_counter()
            output = self.model(self.token, use_cache=True, **{self.argument: self.cache})
            seconds = perf_counter() - started
        self.cache = getattr(output, self.argument)
        return seconds


VARIANTS = ("plain", "budget", "record")


def measure_step(
    model: LoadedModel, batch: int, words: int, rounds: int, seed: int, context: int = 200
) -> dict[str, Any]:
    """One step of the model, and our processor beside it for every format."""
    vocabulary = model.vocabulary
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, vocabulary.size, generator=generator)
    prompts = [list(range(1, context + 1))] * batch
    steps = Steps(model.steerable.model, batch, context, seed)
    for _ in range(3):
        steps.time()
    step_seconds: list[float] = []
    jobs: dict[tuple[str, str], tuple[Any, list[list[int]]]] = {}
    for name, format in FORMATS.items():
        rng = random.Random(f"{seed} {words}")
        labels = labels_of(format)
        documents = [
            expressed(format, draw_document(rng, words, labels), labels) for _ in range(batch)
        ]
        grammars = [format.grammar(d.text, labels, Level.FAITHFUL) for d in documents]
        answers = [vocabulary.tokenize(format.encode(d, labels, Level.FAITHFUL)) for d in documents]
        for variant in VARIANTS:
            budgets = [FAR] * batch if variant == "budget" else None
            processor = GrammarLogitsProcessor(
                vocabulary, grammars, budgets, record=variant == "record"
            )
            jobs[name, variant] = processor, answers
    calls: dict[tuple[str, str], list[list[float]]] = {job: [] for job in jobs}
    for _ in range(rounds):
        for job, (processor, answers) in jobs.items():
            processor.reset()
            calls[job].append(replay(processor, prompts, answers, logits)[1:])
            if job[1] == "plain":
                step_seconds.append(steps.time())
    step = statistics.median(step_seconds)
    middle = {job: [statistics.median(r) for r in found] for job, found in calls.items()}
    rows = []
    for name, variant in jobs:
        found = statistics.median(middle[name, variant])
        pairs = zip(middle[name, variant], middle[name, "plain"], strict=True)
        rows.append(
            {
                "format": name,
                "variant": variant,
                "calls": sum(map(len, calls[name, variant])),
                "call_us": {
                    "median": round(1e6 * found, 1),
                    "p99": microseconds([s for r in calls[name, variant] for s in r])["p99"],
                },
                "row_us": round(1e6 * found / batch, 1),
                "share": round(found / step, 4),
                "share_of_fastest": round(found / min(step_seconds), 4),
                "ratio_to_plain": round(statistics.median(a / b for a, b in pairs), 2),
            }
        )
    return {
        "model": model.name,
        "dtype": "float32",
        "batch": batch,
        "words": words,
        "context": context,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "steps": len(step_seconds),
        "step_us": {"fastest": round(1e6 * min(step_seconds), 1), **microseconds(step_seconds)},
        "rows": rows,
    }


# ---- report -------------------------------------------------------------------------------------


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as they need be, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    numeric = [
        all(row[k][:1].isdigit() or row[k] == "-" for row in cells) for k in range(len(head))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in [head, *cells]
    ]
    return "\n".join([title, "", *lines, ""])


def pair(found: dict[str, float]) -> str:
    return f"{found['median']:.0f} / {found['p99']:.0f}"


def report_formats(rows: Sequence[dict[str, Any]]) -> str:
    head = ("format", "level", "words", "entities", "tokens", "bytes")
    return table(
        "Formats: median / p99 in microseconds; a mask is one row's",
        (*head, "source", "matcher", "mask", "advance"),
        [
            (
                *(row["format"], row["level"], row["words"], f"{row['entities']:.0f}"),
                *(f"{row['tokens']:.0f}", f"{row['grammar_bytes']:.0f}"),
                *(pair(row[f"{key}_us"]) for key in ("source", "matcher", "mask", "advance")),
            )
            if "error" not in row
            else (row["format"], row["level"], row["words"], *["-"] * 6, row["error"])
            for row in rows
        ],
    )


def report_peers(rows: Sequence[dict[str, Any]]) -> str:
    notes = {row["peer"]: row["note"] for row in rows}
    found = table(
        "Peers: one call of a logits processor, microseconds",
        (
            *("peer", "batch", "set-up s", "warm-up s", "start", "median / p99", "a row"),
            *("ratio", "mean", "ratio of means", "tokens faster"),
        ),
        [
            (
                *(row["peer"], row["batch"], row["setup_s"], row["warm_up_s"]),
                *(f"{row['start_us']:.0f}", pair(row["call_us"]), row["row_us"]),
                *(row["ratio"], f"{row['call_us']['mean']:.0f}", row["ratio_of_means"]),
                "-" if row["tokens_faster_than_ours"] is None else row["tokens_faster_than_ours"],
            )
            for row in rows
        ],
    )
    return found + "\n".join(f"{name}: {note}." for name, note in notes.items()) + "\n"


def report_step(found: dict[str, Any]) -> str:
    rows = {(row["format"], row["variant"]): row for row in found["rows"]}
    return table(
        f"Model: a step of {found['model']} at batch {found['batch']} takes "
        f"{pair(found['step_us'])} microseconds, at least {found['step_us']['fastest']:.0f}; our "
        f"call beside it, faithful level, {found['words']} words",
        ("format", "call", "a row", "share", "of the fastest", "with a budget", "recording"),
        [
            (
                *(name, pair(rows[name, "plain"]["call_us"]), rows[name, "plain"]["row_us"]),
                f"{100 * rows[name, 'plain']['share']:.2f} %",
                f"{100 * rows[name, 'plain']['share_of_fastest']:.2f} %",
                *(f"{rows[name, v]['ratio_to_plain']:.2f} times" for v in ("budget", "record")),
            )
            for name in FORMATS
        ],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repetitions", type=int, default=7, help="texts for each format")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each peer")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads for masks")
    parser.add_argument(
        "--quick", action="store_true", help="few and short texts, a small vocabulary, no model"
    )
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)

    started = perf_counter()
    threads = torch.get_num_threads()
    result: dict[str, Any] = {
        **circumstances(PACKAGES),
        "python": platform.python_version(),
        "threads": options.threads,
        "seed": options.seed,
        "quick": options.quick,
    }
    model: LoadedModel | None = None
    if options.quick:
        tokenizer, vocabulary = small_vocabulary()
        lengths, repetitions, batches, rounds = [25], 1, [1, 2], 1
    else:
        model = load_model(device="cpu", dtype="float32")
        tokenizer, vocabulary = model.tokenizer, model.vocabulary
        lengths, batches = [25, 100, 300], [1, 8, 32]
        repetitions, rounds = options.repetitions, options.rounds
    result["tokens in the vocabulary"] = vocabulary.size

    torch.set_num_threads(options.threads)
    try:
        result["formats"] = list(measure_formats(vocabulary, lengths, repetitions, options.seed))
        print(report_formats(result["formats"]), flush=True)
        with warnings.catch_warnings(), TemporaryDirectory() as folder:
            # What torch.compile made in an earlier run would hide what it takes.
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
            # Each of the others has something to say of the versions that it meets.
            warnings.simplefilter("ignore")
            peers = list(available_peers(tokenizer, vocabulary, model))
            result["peers"] = list(measure_peers(peers, vocabulary, batches, rounds, options.seed))
            del peers
        print(report_peers(result["peers"]), flush=True)
    finally:
        torch.set_num_threads(threads)
    if model is not None:
        result["step"] = measure_step(model, 8, 25, rounds, options.seed)
        print(report_step(result["step"]), flush=True)
    result["seconds"] = round(perf_counter() - started)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(result, options.output)


if __name__ == "__main__":
    main()
