"""Many examples, built by all cores: to replay each answer through its masks takes milliseconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from constrained_ner.engines.language_model import LanguageModel
from constrained_ner.engines.vocabulary import Vocabulary
from constrained_ner.process_pool import process_pool

from .examples import Example, Question, make_examples

# Fewer are built sooner than processes are started, which takes some seconds.
FEW = 4000


_model: LanguageModel


def _begin(tokenizer: Any, size: int, ends: tuple[int, ...], context: int | None) -> None:
    """In a process of its own: the model without its weights."""
    global _model
    _model = LanguageModel("", tokenizer, Vocabulary.of(tokenizer, size, ends), context)


def _make(question: Question) -> list[Example]:
    return make_examples(question, _model)


def build(
    questions: Sequence[Question],
    model: LanguageModel,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    *,
    few: int = FEW,
) -> list[list[Example]]:
    """The examples of each question, in their order.

    Parameters
    ----------
    few: up to so many are built by this process.

    Raises
    ------
    TrainingError: see `make_examples`; of the first question that it is true of.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Processes that train together share the cores.
    processes = (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if len(questions) <= few or processes < 2:
        return [make_examples(question, model) for question in progress(questions)]
    vocabulary = model.vocabulary
    begin = model.tokenizer, vocabulary.size, vocabulary.ends, model.context
    with _one_thread_each(), process_pool(processes, _begin, begin) as pool:
        made = pool.map(_make, questions, chunksize=64)
        return [examples for examples, _ in zip(made, progress(questions), strict=True)]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started while this lasts have no threads beside their own."""
    name = "OMP_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
