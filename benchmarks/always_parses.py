"""Do masked answers always parse, whatever the model prefers and whatever the budget?

    python -m benchmarks.always_parses --decodes 200000 -o benchmarks/results/always_parses.json
    python -m benchmarks.always_parses --decodes 1000000 --log runs/million.jsonl -o million.json

With `--log` it goes on where it was stopped; its seconds are those of the last part then.

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
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from constrained_ner.atomic import whole_lines, write_json
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

from .machine import versions

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


def logged(path: Path | None, names: list[str]) -> dict[int, tuple[int, Verdicts, list[Any]]]:
    """The chunks of an earlier run of these versions, by seed: decodes, and what came of them."""
    records = [json.loads(line) for line in whole_lines(path)] if path else []
    return {
        one["seed"]: (
            one["decodes"],
            Counter({(*key, failed): n for *key, failed, n in one["counts"]}),
            one["faults"],
        )
        for one in records
        if one["names"] == names and one["versions"] == versions(PACKAGES)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--decodes", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--format", choices=list(FORMATS), action="append")
    parser.add_argument("--log", type=Path, help="of what is done, to go on with")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    started = perf_counter()
    names = arguments.format or list(FORMATS)
    counts: Verdicts = Counter()
    faults: list[dict[str, Any]] = []
    left: list[tuple[int, int]] = []
    sizes = [min(CHUNK, arguments.decodes - start) for start in range(0, arguments.decodes, CHUNK)]
    seeds = [arguments.seed * 1_000_000 + i for i in range(len(sizes))]
    if arguments.log:
        arguments.log.parent.mkdir(parents=True, exist_ok=True)
    known = logged(arguments.log, names)
    for size, seed in zip(sizes, seeds, strict=True):
        if seed in known and known[seed][0] == size:
            counts += known[seed][1]
            faults += known[seed][2]
        else:
            left.append((size, seed))
    # What is decoded hangs on the seed and not on how many processes there are.
    with ProcessPoolExecutor(
        arguments.processes, get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        chunks = pool.map(counted, *zip(*left, strict=True), [names] * len(left)) if left else ()
        for (size, seed), (some, failed) in zip(left, chunks, strict=True):
            counts += some
            faults += failed
            if arguments.log:
                told = [[*key, n] for key, n in some.items()]
                record = {"seed": seed, "decodes": size, "names": names, "counts": told}
                record |= {"versions": versions(PACKAGES), "faults": failed}
                with arguments.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
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
        result = {
            "decodes": arguments.decodes,
            "seed": arguments.seed,
            "versions": versions(PACKAGES),
            "python": platform.python_version(),
            "seconds": round(perf_counter() - started),
            "rows": rows,
            "kinds": by_kind,
            "faults": faults,
        }
        write_json(result, arguments.output)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
