"""How good a model's generated answers are: on dev questions, and on the test splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from constrained_ner.atomic import whole_lines
from constrained_ner.documents import Document
from constrained_ner.engines.models import LoadedModel
from constrained_ner.errors import TrainingError
from constrained_ner.evaluation import Counts, intervals, strict
from constrained_ner.formats import get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import DevScore
from constrained_ner.pipeline.prediction import Prediction, warn_of_failures
from constrained_ner.pipeline.predictor import Predictor
from constrained_ner.pipeline.scheduling import answer
from constrained_ner.pipeline.task import is_indexed

from .checkpoints import writing
from .data import Drawn, load_corpus
from .examples import Question
from .recipe import Recipe
from .sampling import draw

FILE = "scores.jsonl"
LEVELS = (Level.FREE, Level.FAITHFUL)
# Data set, format, level -> counts on a sample of the test split.
Results = dict[tuple[str, str, str], Counts]
Progress = Callable[[Iterable[Any], str], Iterator[Any]]


def score(model: LoadedModel, questions: Sequence[Question], recipe: Recipe) -> dict[str, Counts]:
    """Strict counts of generated answers, by format.

    Free answers are read leniently, masked ones strictly, as `cner predict` does.
    """

    level = Level.parse(recipe.evaluation.level)

    def predictor(question: Question) -> Predictor:
        return Predictor(
            model,
            get_format(question.format, question.options),
            [question.target],
            level,
            recipe.evaluation.batch_size,
            _budget_of(recipe, level),
            index=question.index,
        )

    def length(question: Question) -> int:
        """About how long the answer is: that of one without entities."""
        format = get_format(question.format, question.options)
        return sum(
            len(format.write(question.document.text, (), labels)) for labels in question.turns
        )

    # A batch takes as long as its longest answer; formats may be mixed in it.
    ordered = sorted(questions, key=length)
    predictions = list(answer((predictor(question), question.document) for question in ordered))
    warn_of_failures(predictions, "dev", "question")
    counts: dict[str, Counts] = {}
    for question, prediction in zip(ordered, predictions, strict=True):
        found = _counted([question.document], [prediction], question.target.labels)
        counts[question.format] = counts.get(question.format, Counts()) + found
    return counts


def test(
    recipe: Recipe, drawn: Drawn, model: LoadedModel, folder: Path, progress: Progress
) -> Results:
    """Strict counts of every format on a sample of each test split, free and faithful.

    Each is written to `scores.jsonl` of the folder once it is known, and not measured again.
    """
    path = folder / FILE
    results = load_results(path)
    with writing(folder), path.open("a", encoding="utf-8") as file:
        for data, corpus in zip(recipe.data, drawn.corpora, strict=True):
            if data.test is None:
                continue
            held = load_corpus(data, data.test, corpus).corpus
            questions = draw(held, "test", recipe.seed, recipe.examples, drawn.options)
            documents = [question.document for question in questions]
            documents.sort(key=lambda document: len(document.text))
            for name, level in product(recipe.formats, LEVELS):
                cell = (corpus.name, name, str(level))
                if cell in results:
                    continue
                predictor = Predictor(
                    model,
                    format := get_format(name, drawn.options),
                    [corpus],
                    level,
                    recipe.evaluation.batch_size,
                    _budget_of(recipe, level),
                    index=is_indexed(format, recipe.examples.index),
                )
                what = f"documents of {corpus.name}, {name}, {level}"
                predictions = list(progress(predictor.predict(documents), what))
                warn_of_failures(predictions, what)
                results[cell] = _counted(documents, predictions, corpus.labels)
                file.write(json.dumps([*cell, asdict(results[cell])]) + "\n")
                file.flush()
    return results


def load_results(path: Path) -> Results:
    """What `test` wrote; a last line that was cut off is removed from the file.

    Raises
    ------
    TrainingError: the file is damaged.
    """
    rows = load_rows(path)
    try:
        return {(name, format, level): Counts(**counts) for name, format, level, counts in rows}
    except (ValueError, TypeError) as error:
        raise TrainingError(f"{path}: damaged: {error}") from None


def load_rows(path: Path) -> list[Any]:
    """The lines of JSON of a file; a last line that was cut off is removed from it.

    Raises
    ------
    TrainingError: the file is damaged.
    """
    try:
        return [json.loads(line) for line in whole_lines(path)]
    except ValueError as error:
        raise TrainingError(f"{path}: damaged: {error}") from None


def dev_score(counts: Sequence[Counts], level: Level, seed: int) -> DevScore:
    """How good a format is on dev, for a model's manifest.

    Parameters
    ----------
    counts: strict ones, one for each document of a sample of the dev splits.
    level: of the answers. `seed`: of the sample.
    """
    total = sum(counts, Counts())
    found = intervals(counts)
    return DevScore(
        round(total.scores.f1 or 0.0, 4),
        (round(found[2][0], 4), round(found[2][1], 4)) if found else None,
        len(counts),
        total.gold,
        str(level),
        seed,
    )


def _budget_of(recipe: Recipe, level: Level) -> int | None:
    """The most tokens of an answer; None: as many as masked answers may need to end."""
    return (recipe.evaluation.max_new_tokens or None) if level == Level.FREE else None


def _counted(
    documents: Sequence[Document], predictions: Iterable[Prediction], labels: Sequence[str]
) -> Counts:
    """Strict counts; gold entities with other labels are passed over."""
    counts = Counts()
    for document, prediction in zip(documents, predictions, strict=True):
        gold = [entity for entity in document.entities if entity.label in labels]
        counts += strict(document.text, gold, prediction.entities)
    return counts
