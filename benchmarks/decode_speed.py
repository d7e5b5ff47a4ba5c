"""How much faster is speculative decoding?

    python -m benchmarks.decode_speed -o benchmarks/results/decode_speed.json

It goes on with what the file holds. The same prompts and the same answers through five ways of
decoding, one after another within each round, so that what else the machine does falls on all of
them:

- *plain*: free generation by transformers, a token a call. All ratios are to this one.
- *reference*: the same under masks, outlines' generator with our processor.
- *fast*: speculative decoding, under masks; `cner predict --no-confidence`.
- *recorded*: the same, and probabilities are kept; what `cner predict` does.
- *fast free*: speculative decoding, without masks; drafts are all that it has.

So that lengths do not decide, all of them write the gold answer of the document: its next token is
made the likeliest after the model was called, before the mask. What the drafts guess is left to
them. Documents are ours, or given with `--data`; prompts are those of `cner predict`.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import pstats
import random
import statistics
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from outlines.processors import OutlinesLogitsProcessor

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.benchmark.grid import PACKAGES
from constrained_ner.corpora import read
from constrained_ner.documents import Document
from constrained_ner.engines.base import Request
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.models import LoadedModel, load_model
from constrained_ner.engines.processor import GrammarLogitsProcessor
from constrained_ner.engines.reference import generate
from constrained_ner.engines.speculative import SpeculativeEngine
from constrained_ner.formats import FORMATS
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prompts import Target

from .machine import SAMPLES, circumstances
from .page import put

FAR = 4096  # a budget whose end is never near
HIGH = 1e4  # a logit above all others
STREAM = 16  # documents of a round, where there are several rows


@dataclass(frozen=True)
class Task:
    """A question and the answer that is to be written: token ids, the end included."""

    question: Request
    gold: tuple[int, ...]


def tasks_of(model: LoadedModel, name: str, documents: Sequence[Document]) -> list[Task]:
    """One question about each document; formats that ask for one label ask for its commonest."""
    format, found = FORMATS[name], []
    for document in documents:
        counts = Counter(entity.label for entity in document.entities)
        labels = [counts.most_common(1)[0][0]] if format.one_label else sorted(counts)
        asked = format.questions(labels)[0]
        kept, _ = format.expressible(document, asked, Level.FAITHFUL)
        gold = format.encode(Document("", document.text, kept), asked, Level.FAITHFUL)
        grammar = format.grammar(document.text, asked, Level.FAITHFUL)
        prompt = model.encode(Conversation(format, document.text, Target(asked)).messages())
        ahead = partial(format.propose_draft, text=document.text)
        question = Request(prompt, FAR, grammar, document.id, name, ahead)
        tokens = (*model.vocabulary.tokenize(gold), model.vocabulary.ends[0])
        found.append(Task(question, tokens))
    return found


# ---- the five ways ------------------------------------------------------------------------------


class Led(OutlinesLogitsProcessor):
    """Makes each row write its gold answer."""

    def __init__(self, golds: Sequence[Sequence[int]]):
        super().__init__("torch")
        self.golds = golds
        self.prompt = 0

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        self.prompt = self.prompt or input_ids.shape[1]
        place = input_ids.shape[1] - self.prompt
        for row, gold in enumerate(self.golds):
            logits[row, gold[min(place, len(gold) - 1)]] = HIGH
        return logits


class LedUnderMasks(GrammarLogitsProcessor):
    """The same under masks."""

    def __init__(self, model: LoadedModel, tasks: Sequence[Task], costs: Costs):
        grammars = [task.question.grammar for task in tasks if task.question.grammar]
        super().__init__(model.vocabulary, grammars, [FAR] * len(tasks), costs=costs)
        self.led = Led([task.gold for task in tasks])

    def process_logits(self, input_ids: Any, logits: Any) -> Any:
        return super().process_logits(input_ids, self.led.process_logits(input_ids, logits))


class LedSpeculative(SpeculativeEngine):
    """The same by the speculative engine."""

    def _mask(self, writers: Any, starts: Any, logits: Any) -> Any:
        for writer, start in zip(writers, starts, strict=True):
            gold, written = writer.request.key.gold, len(writer.tokens)
            for place in range(len(writer.draft.tokens) + 1):
                logits[start + place, gold[min(written + place, len(gold) - 1)]] = HIGH
        return super()._mask(writers, starts, logits)


Tokens = list[tuple[int, ...]]
Way = Callable[[Sequence[Task]], Tokens]


def plain(model: LoadedModel, batch: int, costs: Costs) -> Way:
    return _in_batches(model, batch, costs, lambda tasks: Led([task.gold for task in tasks]))


def reference(model: LoadedModel, batch: int, costs: Costs) -> Way:
    return _in_batches(model, batch, costs, lambda tasks: LedUnderMasks(model, tasks, costs))


def _in_batches(
    model: LoadedModel,
    batch: int,
    costs: Costs,
    processor: Callable[[Sequence[Task]], OutlinesLogitsProcessor],
) -> Way:
    def way(tasks: Sequence[Task]) -> Tokens:
        found: Tokens = []
        for at in range(0, len(tasks), batch):
            some = tasks[at : at + batch]
            prompts = [task.question.prompt for task in some]
            budgets = [len(task.gold) for task in some]
            answers = generate(model, prompts, budgets, processor=processor(some), costs=costs)
            found += [answer.tokens for answer in answers]
        return found

    return way


def fast(model: LoadedModel, batch: int, costs: Costs) -> Way:
    return _speculative(LedSpeculative(model, batch, costs=costs), masked=True)


def recorded(model: LoadedModel, batch: int, costs: Costs) -> Way:
    return _speculative(LedSpeculative(model, batch, record=True, costs=costs), masked=True)


def fast_free(model: LoadedModel, batch: int, costs: Costs) -> Way:
    return _speculative(LedSpeculative(model, batch, costs=costs), masked=False)


def _speculative(engine: SpeculativeEngine, *, masked: bool) -> Way:
    """One engine for all rounds, as `cner predict` has one for many documents."""

    def way(tasks: Sequence[Task]) -> Tokens:
        free: dict[str, Any] = {} if masked else {"grammar": None}
        waiting = deque(
            replace(task.question, budget=FAR if masked else len(task.gold), key=task, **free)
            for task in tasks
        )
        found: dict[int, tuple[int, ...]] = {}
        for question, answer in engine.decode(lambda: waiting.popleft() if waiting else None):
            if isinstance(answer, Exception):
                raise answer
            found[id(question.key)] = answer.tokens
        return [found[id(task)] for task in tasks]

    return way


WAYS: dict[str, Callable[[LoadedModel, int, Costs], Way]] = {
    "plain": plain,
    "reference": reference,
    "fast": fast,
    "recorded": recorded,
    "fast free": fast_free,
}

# ---- measuring ----------------------------------------------------------------------------------


def measure(
    model: LoadedModel, name: str, documents: Sequence[Document], batch: int, least: int
) -> dict[str, Any]:
    """One format at one size of batch: a round takes the next documents through all ways.

    Where there are several rows, a round has more documents than rows: there the next one
    takes the place of one that is done, and batch by batch it waits for the longest.

    Parameters
    ----------
    least: how many documents there are at least.
    """
    size = batch if batch == 1 else max(batch, STREAM)
    rounds = -(-least // size)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    costs = {way: Costs() for way in WAYS}
    ways = {way: make(model, batch, costs[way]) for way, make in WAYS.items()}
    tokens = 0
    for number in range(rounds):
        chosen = [documents[(number * size + i) % len(documents)] for i in range(size)]
        tasks = tasks_of(model, name, chosen)
        tokens += sum(len(task.gold) for task in tasks)
        order = list(WAYS)
        random.Random(number).shuffle(order)
        for way in order:
            started = perf_counter()
            written = ways[way](tasks)
            seconds[way].append(perf_counter() - started)
            if written != [task.gold for task in tasks]:
                raise SystemExit(f"{name}, {way}: another answer than the gold one")
    base = sum(seconds["plain"])
    return {
        "format": name,
        "batch": batch,
        "documents": rounds * size,
        "tokens": tokens,
        "ways": {
            way: {
                "seconds_per_document": round(sum(seconds[way]) / (rounds * size), 4),
                "calls": costs[way].calls,
                "tokens_per_row_and_call": round(tokens / batch / costs[way].calls, 2),
                "times_plain": round(base / sum(seconds[way]), 2),
                "median_of_rounds": round(
                    statistics.median(
                        a / b for a, b in zip(seconds["plain"], seconds[way], strict=True)
                    ),
                    2,
                ),
                "share_of_masks": round(costs[way].mask_seconds / sum(seconds[way]), 3),
            }
            for way in WAYS
        },
    }


def profile(model: LoadedModel, documents: Sequence[Document], batch: int) -> str:
    """Where the time of the fast way goes: the functions that take most by themselves."""
    tasks = tasks_of(model, "multi_tag", documents[:batch])
    watch = cProfile.Profile()
    watch.runcall(fast(model, batch, Costs()), tasks)
    lines = io.StringIO()
    pstats.Stats(watch, stream=lines).strip_dirs().sort_stats("tottime").print_stats(15)
    return lines.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=SAMPLES, help="annotated documents")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--documents", type=int, default=8, help="a format and batch at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    parser.add_argument("--page", action="store_true", help="write docs/measurements.md")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype)
    documents = [d for d in read(arguments.data) if isinstance(d, Document) and d.entities]
    random.Random(arguments.seed).shuffle(documents)
    if arguments.profile:
        print(profile(model, documents, 8))
    bare = model.steerable.model
    result = {
        **circumstances(PACKAGES, arguments.model),
        "data": f"{arguments.data.resolve().parent.name}/{arguments.data.name}",
        "documents": arguments.documents,
        "seed": arguments.seed,
        "device": str(bare.device),
        "dtype": str(bare.dtype),
        "threads": torch.get_num_threads(),
    }
    rows = measured(arguments.output, result)
    # What is loaded at first is no part of the first cell.
    plain(model, 1, Costs())(tasks_of(model, "multi_term", documents[:1]))
    for batch in map(int, arguments.batches.split(",")):
        for name in arguments.formats.split(","):
            if any((row["format"], row["batch"]) == (name, batch) for row in rows):
                continue
            rows.append(measure(model, name, documents, batch, arguments.documents))
            if arguments.output:
                write_json({**result, "rows": rows}, arguments.output)
            ways = rows[-1]["ways"]
            told = ", ".join(f"{way} {ways[way]['times_plain']}" for way in WAYS if way != "plain")
            per_call = ways["fast"]["tokens_per_row_and_call"]
            print(f"batch {batch:2} {name:13} {told}; {per_call} tokens a call", file=sys.stderr)
    if arguments.page:
        write_table(rows)


def measured(path: Path | None, result: dict[str, Any]) -> list[dict[str, Any]]:
    """What a file holds already, if it is of the same machine, model, versions and documents."""
    if path is None or not path.exists():
        return []
    before = json.loads(path.read_bytes())
    other = [key for key in result if key != "day" and before.get(key) != result[key]]
    if other:
        raise SystemExit(f"{path} was measured otherwise ({', '.join(other)}): name another file")
    rows: list[dict[str, Any]] = before["rows"]
    return rows


def write_table(rows: Sequence[dict[str, Any]]) -> None:
    """How many times plain free decoding's speed, format by format."""
    batches = sorted({row["batch"] for row in rows})
    by_format: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_format.setdefault(row["format"], {})[row["batch"]] = row["ways"]
    table = []
    for name, of_batch in by_format.items():
        line = [name]
        for batch in batches:
            ways = of_batch[batch]
            shown = [
                f"{ways[way]['times_plain']:.1f}" for way in ("fast", "fast free", "reference")
            ]
            line += [" / ".join(shown), f"{ways['fast']['tokens_per_row_and_call']:.1f}"]
        table.append(line)
    heads = [head for batch in batches for head in (f"batch {batch}", "tokens a call")]
    put("decode_speed", ["format", *heads], table)


if __name__ == "__main__":
    main()
