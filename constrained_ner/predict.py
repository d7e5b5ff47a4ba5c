"""From documents to entities: prompts, batches, decoding, reading, settling."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any

from constrained_ner.decoding.budget import derived_budget
from constrained_ner.decoding.generation import Answer, generate
from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.errors import AnswerError, CnerError, InputError, UnknownNameError
from constrained_ner.formats import Format, Problem, ProblemKind
from constrained_ner.grammar import Grammar, Level
from constrained_ner.labels import check_labels
from constrained_ner.models import LanguageModel
from constrained_ner.prompts import DEFAULT_DATASET, demonstrations, messages

BACKENDS = ("llguidance", "outlines_core", "xgrammar")
_PREFIX = "Answer: "


@dataclass(frozen=True)
class Reply:
    """A model's answer to one question about a document.

    Attributes
    ----------
    labels: those asked for.
    answer: as generated. `settled`: what `encode` writes for its entities (masked answers only).
    entities: what was read from it.
    problems: what was wrong with it, and what settling dropped.
    parses: whether the answer as generated follows its format to the letter.
    ended, forced, tokens: see `Answer`.
    """

    labels: tuple[str, ...]
    answer: str
    settled: str | None
    entities: tuple[Entity, ...]
    problems: tuple[Problem, ...]
    parses: bool
    ended: bool
    forced: bool
    tokens: int


@dataclass(frozen=True)
class Prediction:
    """A document's entities, and how they came about; or why there are none."""

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    replies: tuple[Reply, ...] = ()
    error: str | None = None
    format: Format = field(kw_only=True)
    level: Level = field(kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """One line of the output: entities with offsets and surfaces, the answers, their format."""
        made_by = {
            "format": self.format.name,
            "level": self.level,
            "options": asdict(self.format.options),
        }
        if self.error is not None:
            return {"id": self.id, "error": self.error, **made_by}
        return {
            "id": self.id,
            "text": self.text,
            **made_by,
            "entities": [
                {
                    "label": entity.label,
                    "fragments": [list(fragment) for fragment in entity.fragments],
                    "surface": entity.surface(self.text),
                }
                for entity in self.entities
            ],
            "answers": [
                {
                    "labels": list(reply.labels),
                    "answer": reply.answer,
                    **({"settled": reply.settled} if _differs(reply) else {}),
                    "parses": reply.parses,
                    "problems": [[problem.kind, problem.detail] for problem in reply.problems],
                    "tokens": reply.tokens,
                    "ended": reply.ended,
                    "forced": reply.forced,
                }
                for reply in self.replies
            ],
        }


def _differs(reply: Reply) -> bool:
    return reply.settled is not None and reply.settled != reply.answer


@dataclass
class Summary:
    """Counts over a run, for its last lines."""

    documents: int = 0
    failed: list[str] = field(default_factory=list)
    entities: int = 0
    answers: int = 0
    unparsed: int = 0
    truncated: int = 0
    forced: int = 0
    tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=perf_counter)

    def add(self, prediction: Prediction) -> None:
        self.documents += 1
        if prediction.error is not None:
            self.failed.append(prediction.error)
        self.entities += len(prediction.entities)
        for reply in prediction.replies:
            self.answers += 1
            self.unparsed += not reply.parses
            self.truncated += not reply.ended
            self.forced += reply.forced
            self.tokens += reply.tokens
            self.problems.update(str(problem.kind) for problem in reply.problems)

    def lines(self) -> list[str]:
        seconds = perf_counter() - self.started
        problems = ", ".join(f"{n} {kind}" for kind, n in sorted(self.problems.items()))
        return [
            f"{self.documents} documents, {self.entities} entities, {self.answers} answers; "
            f"{self.tokens} tokens in {seconds:.1f} s ({self.tokens / seconds:.1f} tokens/s)",
            f"answers that do not parse strictly: {self.unparsed}; cut off: {self.truncated}; "
            f"closed by the budget: {self.forced}",
            f"problems: {problems or 'none'}",
            f"documents left out: {len(self.failed)}",
        ]


@dataclass
class _Job:
    """One question about one document."""

    document: Document
    labels: tuple[str, ...]
    conversation: list[Reply] = field(default_factory=list)


@dataclass(frozen=True)
class Predictor:
    """A model, a format, labels and a level of constraint.

    Parameters
    ----------
    level: FREE decodes without a mask and reads leniently.
    max_new_tokens: the budget of each answer; None derives it from the text.
    dataset: whose guidelines the prompt names. `guideline`: what they say, for the prompt.
    index: show every word's offset in the prompt.
    backend: `llguidance`, or an engine of outlines' own for what a JSON schema can say: the
        syntax level of the JSON formats, without the budget's guarantee.
    examples: annotated documents to show to the model before each question.
    """

    model: LanguageModel
    format: Format
    labels: tuple[str, ...]
    level: Level = Level.FAITHFUL
    batch_size: int = 8
    max_new_tokens: int | None = None
    dataset: str = DEFAULT_DATASET
    index: bool = False
    backend: str = "llguidance"
    examples: tuple[Document, ...] = ()
    guideline: str = ""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if self.backend not in BACKENDS:
            raise UnknownNameError(
                f"unknown backend {self.backend!r}: expected one of {', '.join(BACKENDS)}"
            )
        if self.backend != "llguidance":
            if self.level is not Level.SYNTAX:
                raise UnknownNameError(
                    f"backend {self.backend} knows the syntax level only: a grammar made from "
                    "each text needs llguidance"
                )
            if self.format.schema(self.format.questions(self.labels)[0]) is None:
                raise UnknownNameError(
                    f"backend {self.backend} takes JSON schemas, and {self.format.name} has none"
                )

    def predict(self, documents: Iterable[Document | InputError]) -> Iterator[Prediction]:
        """One prediction for each document, in their order, as they are done.

        A document that cannot be read or answered becomes a prediction with an `error`.
        """
        source = iter(documents)
        prediction = partial(Prediction, format=self.format, level=self.level)
        while batch := list(islice(source, self.batch_size)):
            replies: dict[int, list[Reply]] = {}
            errors: dict[int, str] = {}
            jobs: list[tuple[int, _Job]] = []
            for i, document in enumerate(batch):
                replies[i] = []
                if isinstance(document, InputError):
                    errors[i] = str(document)
                elif not document.text.strip():
                    errors[i] = f"document {document.id!r}: the text is empty"
                else:
                    jobs += [(i, _Job(document, q)) for q in self.format.questions(self.labels)]
            for wave in self._waves(jobs):
                open_jobs = [(i, job) for i, job in wave if i not in errors]
                for i, job in open_jobs:
                    job.conversation = replies[i]
                for i, reply in self._answer(open_jobs):
                    if isinstance(reply, Reply):
                        replies[i].append(reply)
                    else:
                        errors.setdefault(i, str(reply))
            for i, document in enumerate(batch):
                if isinstance(document, InputError):
                    yield prediction("", "", error=errors[i])
                elif i in errors:
                    yield prediction(document.id, document.text, error=errors[i])
                else:
                    entities = text_order(e for reply in replies[i] for e in reply.entities)
                    yield prediction(document.id, document.text, entities, tuple(replies[i]))

    def _waves(self, jobs: list[tuple[int, _Job]]) -> Iterator[list[tuple[int, _Job]]]:
        """Jobs that can be answered together; a conversation's turns wait for one another."""
        if self.format.name == "conv_term":
            for label in self.labels:
                yield [(i, job) for i, job in jobs if job.labels == (label,)]
        else:
            for at in range(0, len(jobs), self.batch_size):
                yield jobs[at : at + self.batch_size]

    # ---- one batch

    def _answer(self, jobs: Sequence[tuple[int, _Job]]) -> Iterator[tuple[int, Reply | CnerError]]:
        """Replies or errors, in the order of the jobs; one bad job leaves the others alone."""
        ready: list[tuple[int, _Job, list[int], int, Grammar | None]] = []
        done: dict[int, Reply | CnerError] = {}
        for at, (_, job) in enumerate(jobs):
            try:
                ready.append((at, job, *self._prepare(job)))
            except CnerError as error:
                done[at] = error
        while ready:
            try:
                answers = self._generate(ready)
            except CnerError as error:
                if error.row is None:
                    raise
                done[ready[error.row][0]] = error
                del ready[error.row]
                continue
            for (at, job, *_), answer in zip(ready, answers, strict=True):
                done[at] = self._read(job, answer)
            break
        for at, (i, _) in enumerate(jobs):
            yield i, done[at]

    def _prepare(self, job: _Job) -> tuple[list[int], int, Grammar | None]:
        """Prompt, token budget and grammar of a job."""
        text, model = job.document.text, self.model
        place = f"document {job.document.id!r}"
        labels = job.labels if self.format.name != "conv_term" else self.labels
        answers = [reply.settled or reply.answer for reply in job.conversation]
        chat = demonstrations(
            self.format, self.examples, labels, self.dataset, index=self.index
        ) + messages(
            self.format,
            text,
            labels,
            self.dataset,
            index=self.index,
            answers=answers,
            guideline=self.guideline,
        )
        prompt = model.encode(chat)
        if self.backend != "llguidance":
            prompt += model.vocabulary.tokenize(_PREFIX)
        grammar = None
        if self.level is Level.FREE or self.backend != "llguidance":
            empty = self.format.write(text, (), job.labels)
        else:
            try:
                grammar = self.format.grammar(text, job.labels, self.level)
            except CnerError as error:
                error.args = (f"{place}: {error}",)
                raise
            empty = grammar.empty
            unwritable = model.vocabulary.can_write(text)
            if self.level is Level.FAITHFUL and unwritable is not None:
                raise InputError(
                    f"{place}: the model's tokens cannot spell {text[unwritable]!r} at offset "
                    f"{unwritable}"
                )
        budget = self.max_new_tokens or derived_budget(text, empty, model.vocabulary)
        if model.context is not None:
            shortest = len(model.vocabulary.tokenize(empty)) + 1
            if len(prompt) + shortest > model.context:
                raise InputError(
                    f"{place}: the text is too long: the prompt takes {len(prompt)} tokens and the "
                    f"shortest answer {shortest}, and the model has room for {model.context}"
                )
            budget = min(budget, model.context - len(prompt))
        return prompt, budget, grammar

    def _generate(
        self, ready: Sequence[tuple[int, _Job, list[int], int, Grammar | None]]
    ) -> list[Answer]:
        grammars = [grammar for *_, grammar in ready if grammar is not None]
        return generate(
            self.model,
            [prompt for _, _, prompt, _, _ in ready],
            [budget for _, _, _, budget, _ in ready],
            grammars or None,
            [f"document {job.document.id!r}" for _, job, *_ in ready],
            processor=self._foreign_processor(),
        )

    def _foreign_processor(self) -> Any:
        """A processor of outlines' own; None for ours, or for no mask."""
        if self.backend == "llguidance":
            return None
        from outlines.backends import get_json_schema_logits_processor

        schema = json.dumps(self.format.schema(self.format.questions(self.labels)[0]))
        try:
            return get_json_schema_logits_processor(self.backend, self.model.steerable, schema)
        except ImportError as error:
            raise UnknownNameError(
                f"backend {self.backend} is not installed: "
                f"`pip install 'constrained_ner[{self.backend}]'` ({error})"
            ) from error

    def _read(self, job: _Job, answer: Answer) -> Reply:
        """Entities of an answer: settled where it was masked, salvaged where it was free."""
        text, written = job.document.text, answer.text
        if self.backend != "llguidance":
            written = _respelled(written)
        settled: str | None = None
        problems: tuple[Problem, ...]
        try:
            result = self.format.settle(written, text, job.labels)
            parses, entities, problems = True, result.entities, result.problems
            settled = None if self.level is Level.FREE else result.answer
        except AnswerError as error:
            decoded = self.format.decode(written, text, job.labels, strict=False)
            parses, entities, problems = False, decoded.entities, decoded.problems
            if not problems:
                problems = (Problem(ProblemKind.UNPARSABLE, str(error)),)
        return Reply(
            job.labels,
            written,
            settled,
            entities,
            problems,
            parses,
            answer.ended,
            answer.forced,
            len(answer.tokens),
        )


def _respelled(generated: str) -> str:
    """The JSON of an engine that chooses its own white space, in our one spelling."""
    try:
        return _PREFIX + json.dumps(json.loads(generated), ensure_ascii=False)
    except json.JSONDecodeError:
        return _PREFIX + generated
