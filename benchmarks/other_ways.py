"""What do other ways to ask the same model find in the same sentences?

    pip install langextract
    python -m benchmarks.other_ways --corpora corpora -o runs/other_ways.json

The default model, sentences of test splits, strict F1 by one scorer. Ours: terms under a grammar.
Outlines' way: terms as JSON under a schema, whose strings are looked for in the text afterwards.
Nothing: the same, without a mask. langextract's way: its own prompt with examples out of the
training split, its JSON under a schema by outlines, its own reader and alignment; with our model,
which was trained on other prompts, and with the model that ours was made of. It asks one by one,
and many answers go on to their budgets, so it gets fewer documents. All have the same budgets.
langextract drops an answer that its budget cut off: they are counted.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from constrained_ner.adapters import BASE_MODEL, DEFAULT_MODEL
from constrained_ner.atomic import write_json
from constrained_ner.benchmark.grid import PACKAGES
from constrained_ner.benchmark.together import Asked
from constrained_ner.corpora import read
from constrained_ner.documents import Document, Entity
from constrained_ner.engines import DEFAULT_ENGINE
from constrained_ner.engines.models import LoadedModel, device_name, dtype_name, load_model
from constrained_ner.evaluation import Counts, intervals, paired_test
from constrained_ner.evaluation.resampling import Difference, corrected
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.task import task_for

from .machine import circumstances

RESULTS = Path(__file__).parent / "results" / "other_ways.json"
LABELS = {"ncbi-disease": ("Disease",), "bc5cdr": ("Chemical", "Disease"), "bc2gm": ("GENE",)}
TERMS = "multi_term"
EXAMPLES = 3  # for langextract

# What was found in each document, and how many answers could not be read.
Found = tuple[list[list[Entity]], int]
Way = Callable[[str, Sequence[Document]], Found]


def asked(model: LoadedModel, level: Level, engine: str = DEFAULT_ENGINE) -> Way:
    """As this package asks."""

    def ask(data: str, documents: Sequence[Document]) -> Found:
        task = task_for(load_manifest(DEFAULT_MODEL), LABELS[data], TERMS, data, {}, "agreement")
        predictor = Predictor(
            model, task.formats, task.targets, level, batch_size=16, engine=engine
        )
        answered = list(predictor.predict(documents))
        broken = sum(not reply.parses for one in answered for reply in one.replies)
        return [list(one.entities) for one in answered], broken

    return ask


def by_langextract(model: LoadedModel, corpora: Path) -> Way:
    """As langextract asks."""
    import langextract
    import outlines
    from langextract.core.base_model import BaseLanguageModel
    from langextract.core.types import ScoredOutput
    from langextract.prompt_validation import PromptValidationLevel

    def ask(data: str, documents: Sequence[Document]) -> Found:
        known = [one for one in sample(corpora / data / "train.jsonl", 200) if one.entities]
        examples = [
            langextract.data.ExampleData(
                one.text,
                [
                    langextract.data.Extraction(entity.label, entity.surface(one.text))
                    for entity in one.entities
                ],
            )
            for one in known[:EXAMPLES]
        ]
        schema = outlines.types.JsonSchema(schema_of(LABELS[data]))
        generator = outlines.Generator(model.steerable, schema)

        answers: list[str] = []
        budget = 0

        def infer(_: Any, batch_prompts: Sequence[str], **__: Any) -> Iterator[list[Any]]:
            for prompt in batch_prompts:
                chat = outlines.inputs.Chat([{"role": "user", "content": prompt}])
                answer: Any = generator(chat, max_new_tokens=budget, do_sample=False)
                answers.append(answer)
                yield [ScoredOutput(score=1.0, output=answer)]

        ours = type("Ours", (BaseLanguageModel,), {"infer": infer})()
        found = []
        for document in documents:
            budget = derived_budget(
                get_format(TERMS), document.text, LABELS[data], model.vocabulary
            )
            annotated = langextract.extract(
                document.text,
                f"Extract the mentions of {' and '.join(LABELS[data])} in the order in which they "
                "occur, in the words of the text.",
                examples,
                model=ours,
                use_schema_constraints=False,
                fence_output=False,
                max_workers=1,
                show_progress=False,
                prompt_validation_level=PromptValidationLevel.OFF,
            )
            found.append(
                [
                    Entity(one.extraction_class, ((place.start_pos, place.end_pos),))
                    for one in annotated.extractions or ()
                    if (place := one.char_interval) and place.start_pos is not None
                ]
            )
        return found, sum(not is_json(answer) for answer in answers)

    return ask


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def schema_of(labels: Sequence[str]) -> dict[str, Any]:
    """Of what langextract reads: a list of objects with a label as key."""
    items = [
        {
            "type": "object",
            "properties": {label: {"type": "string", "minLength": 1}},
            "required": [label],
            "additionalProperties": False,
        }
        for label in labels
    ]
    extractions = {"type": "array", "items": {"anyOf": items}}
    return {
        "type": "object",
        "properties": {"extractions": extractions},
        "required": ["extractions"],
        "additionalProperties": False,
    }


def sample(path: Path, number: int) -> list[Document]:
    documents = [one for one in read(path) if isinstance(one, Document)]
    return random.Random(0).sample(documents, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--documents", type=int, default=100, help="of each corpus")
    parser.add_argument("--slow", type=int, default=20, help="the same for langextract; 0: none")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    data = {name: sample(given.corpora / name / "test.jsonl", given.documents) for name in LABELS}
    model = load_model()
    every, few = given.documents, min(given.slow, given.documents)
    ways: dict[str, tuple[Way, int]] = {
        f"ours: {TERMS}, faithful": (asked(model, Level.FAITHFUL), every),
        f"outlines: {TERMS} by its JSON schema": (
            asked(model, Level.SYNTAX, "outlines_core"),
            every,
        ),
        f"no mask: {TERMS}": (asked(model, Level.FREE), every),
        "langextract, our model": (by_langextract(model, given.corpora), few),
        "langextract, its base model": (
            by_langextract(load_model(BASE_MODEL), given.corpora),
            few,
        ),
    }
    rows: list[dict[str, Any]] = []
    first: dict[str, list[Counts]] = {}
    tested: dict[str, Difference] = {}
    for name, (ask, number) in ways.items():
        if not number:
            continue
        counts: dict[str, list[Counts]] = {}
        unread = 0
        for corpus, documents in data.items():
            labels = frozenset(LABELS[corpus])
            answered, broken = ask(corpus, documents[:number])
            unread += broken
            counts[corpus] = [
                Asked(document, labels, {}).counts(dict.fromkeys(found, 1.0))
                for document, found in zip(documents, answered, strict=False)
            ]
        first = first or counts
        own = [one for some in counts.values() for one in some]
        ours = [one for some in first.values() for one in some[:number]]
        if rows and (test := paired_test(ours, own)):
            tested[name] = test.f1
        spread = intervals(own)
        row = {
            "way": name,
            "documents": len(own),
            **sum(own, Counts()).scores._asdict(),
            "interval": spread and spread.f1,
            "unreadable": unread,
            "f1 of the first way": sum(ours, Counts()).scores.f1,
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        # The first way is what the others are compared with; p-values are corrected for their
        # number.
        differences = dict(zip(tested, corrected(list(tested.values())), strict=True))
        compared = [
            {**one, "difference": asdict(differences[one["way"]]) if one["way"] in tested else None}
            for one in rows
        ]
        results = {
            "device": device_name(model),
            "dtype": dtype_name(model),
            **circumstances((*PACKAGES, "langextract"), DEFAULT_MODEL),
            "ways": compared,
        }
        write_json(results, given.output)


if __name__ == "__main__":
    main()
