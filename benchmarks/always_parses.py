"""Do masked answers always parse, whatever the model prefers and whatever the budget?

    python -m benchmarks.always_parses --decodes 1000000 -o benchmarks/results/always_parses.json

It goes on with what the file holds, if that is of the same seed and the same versions.

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
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from constrained_ner.atomic import write_json
from constrained_ner.documents import text_order
from constrained_ner.engines.base import Answer, Request
from constrained_ner.engines.completion import shortest_answer
from constrained_ner.engines.models import LoadedModel, wrap
from constrained_ner.engines.processor import GrammarLogitsProcessor
from constrained_ner.engines.speculative import SpeculativeEngine
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.errors import DecodingError
from constrained_ner.formats import FORMATS, ProblemKind
from constrained_ner.formats.grammar import Grammar, Level
from constrained_ner.words import on_boundaries, one_line
from tests.support.adversaries import KINDS, Mind, Task, draw_task, minds
from tests.support.models import small_vocabulary, tiny_llama

from .machine import machine, versions
from .page import put

PACKAGES = ("constrained_ner", "llguidance", "lark", "outlines", "torch", "transformers")
CHUNK = 480  # decodes of one seed, forty for each format
MODEL = "a model, with drafts"

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
def small_model(seed: int) -> LoadedModel:
    return wrap("tiny", *tiny_llama(seed))


def decode_with_drafts(
    model: LoadedModel, tasks: list[Task], budgets: list[int], rng: random.Random
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
    if task.level == Level.FAITHFUL:
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


def counted(seed: int, names: list[str]) -> tuple[Verdicts, list[dict[str, Any]]]:
    """How many decodes of a chunk passed and failed, and what is to be said of the latter."""
    counts: Verdicts = Counter()
    faults: list[dict[str, Any]] = []
    for result in run(CHUNK, seed, names, kinds=list(KINDS)):
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


@dataclass
class Verified:
    """What was decoded so far, as it stands in the file of results."""

    seed: int
    formats: list[str]
    versions: dict[str, str]
    python: str = platform.python_version()
    chunks: int = 0
    seconds: float = 0
    counts: Verdicts = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Verified:
        written = json.loads(path.read_bytes())
        counts: Verdicts = Counter()
        for row in written["counts"]:
            for failed in (False, True):
                number = row["failed"] if failed else row["decodes"] - row["failed"]
                counts[row["format"], row["level"], row["kind"], failed] = number
        names = ("seed", "formats", "versions", "python", "chunks", "seconds", "faults")
        return cls(**{name: written[name] for name in names}, counts=+counts)

    def save(self, path: Path) -> None:
        rows = [self.row(*key) for key in sorted({key[:3] for key in self.counts})]
        written = {
            "decodes": self.counts.total(),
            "day": date.today().isoformat(),
            "machine": machine(),
            **{name: value for name, value in vars(self).items() if name != "counts"},
            "seconds": round(self.seconds),
            "counts": [
                dict(zip(("format", "level", "kind", "decodes", "failed"), row, strict=True))
                for row in rows
            ],
        }
        write_json(written, path)

    def row(self, *wanted: str) -> tuple[Any, ...]:
        """What is wanted of format, level and kind; how many decodes of it, how many failed."""
        chosen = [(key[3], n) for key, n in self.counts.items() if set(wanted) <= set(key[:3])]
        failed = sum(number for failed, number in chosen if failed)
        return *wanted, sum(number for _, number in chosen), failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--decodes", type=int, default=4_800, help="about so many, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--format", choices=list(FORMATS), action="append")
    parser.add_argument("--page", action="store_true", help="write docs/measurements.md")
    parser.add_argument("-o", "--output", type=Path, help="goes on with what it holds")
    given = parser.parse_args()

    done = Verified(given.seed, given.format or list(FORMATS), versions(PACKAGES))
    if given.output and given.output.exists():
        known = Verified.load(given.output)
        for name in ("seed", "formats", "versions"):
            if getattr(known, name) != getattr(done, name):
                parser.error(f"{given.output} is of other {name}: {getattr(known, name)}")
        done = known
    # What is decoded hangs on the seeds and not on how many processes there are.
    seeds = [given.seed * 1_000_000 + i for i in range(done.chunks, -(-given.decodes // CHUNK))]
    before, started = done.seconds, perf_counter()
    with ProcessPoolExecutor(
        given.processes, get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        for counts, faults in pool.map(counted, seeds, [done.formats] * len(seeds)):
            done.counts += counts
            done.faults += faults
            done.chunks += 1
            done.seconds = before + perf_counter() - started
            if given.output:
                done.save(given.output)
            for fault in faults:
                print(json.dumps(fault, ensure_ascii=False), file=sys.stderr)
            told = f"{done.counts.total()} decodes, {len(done.faults)} failed"
            print(f"{told}, {done.seconds:.0f} s", flush=True)
    kinds = [done.row(kind) for kind in KINDS]
    levels = (Level.SYNTAX, Level.FAITHFUL)
    for row in [*(done.row(name, str(level)) for name in done.formats for level in levels), *kinds]:
        *what, decodes, failed = row
        print(f"{' '.join(what):<24} {decodes:>7} decodes, {failed} failed")
    if given.page:
        put(
            "always_parses",
            ["kind", "decodes", "failed"],
            [[kind, f"{decodes:,}", f"{failed:,}"] for kind, decodes, failed in kinds],
        )
    sys.exit(bool(done.faults))


if __name__ == "__main__":
    main()
