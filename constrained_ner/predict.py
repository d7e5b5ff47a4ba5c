"""From documents to entities: prompts, batches, decoding, reading, settling."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from statistics import fmean
from time import perf_counter
from typing import Any, NamedTuple

from constrained_ner.decoding.budget import derived_budget
from constrained_ner.decoding.costs import Costs
from constrained_ner.decoding.fast import FastDecoder, Question, why_not
from constrained_ner.decoding.generation import generate
from constrained_ner.decoding.rows import Answer
from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.errors import AnswerError, CnerError, InputError, UnknownNameError
from constrained_ner.formats import Format, Problem, ProblemKind
from constrained_ner.grammar import Grammar, Level
from constrained_ner.labels import check_labels
from constrained_ner.models import LanguageModel
from constrained_ner.prompts import Target, demonstrations, messages

BACKENDS = ("llguidance", "outlines_core", "xgrammar")
DECODERS = ("fast", "reference")
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
    kept: of the model's probability the share that the masks let through, over the tokens of the
        answer: the mean and the least; None where it was not recorded.
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
    kept: tuple[float, float] | None = None


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
                    **({} if reply.kept is None else {"kept": list(reply.kept)}),
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
    """One question about one document.

    Attributes
    ----------
    predictor: how it is asked and answered.
    labels: those of the question. `target`: what it is part of.
    before: the questions of the same conversation that come before it.
    """

    predictor: Predictor
    document: Document
    target: Target
    labels: tuple[str, ...]
    before: tuple[_Job, ...] = ()
    outcome: Reply | CnerError | None = None

    @property
    def reply(self) -> Reply:
        assert isinstance(self.outcome, Reply)
        return self.outcome


class _Ready(NamedTuple):
    """A job with its prompt, its token budget, and its grammar where one masks it."""

    job: _Job
    prompt: list[int]
    budget: int
    grammar: Grammar | None


@dataclass(frozen=True)
class Predictor:
    """A model, a format, what is asked for and a level of constraint.

    Parameters
    ----------
    targets: each is asked for by itself, and the entities come together.
    level: FREE decodes without a mask and reads leniently.
    max_new_tokens: the budget of each answer; None derives it from the text.
    index: show every word's offset in the prompt.
    backend: `llguidance`, or an engine of outlines' own for what a JSON schema can say: the
        syntax level of the JSON formats, without the budget's guarantee.
    decoder: `fast`, see `decoding.fast`, or `reference`, outlines' generator token by token. Models
        that the fast one cannot take are decoded by the other.
    examples: annotated documents to show to the model before each question.
    record: keep how much of the model's probability masks let through; see `Reply.kept`.
    costs: what answering takes is added to it.
    """

    model: LanguageModel
    format: Format
    targets: Sequence[Target]
    level: Level = Level.FAITHFUL
    batch_size: int = 8
    max_new_tokens: int | None = None
    index: bool = False
    backend: str = "llguidance"
    decoder: str = "fast"
    examples: tuple[Document, ...] = ()
    record: bool = False
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        check_labels([label for target in self.targets for label in target.labels])
        if self.backend not in BACKENDS:
            raise UnknownNameError(
                f"unknown backend {self.backend!r}: expected one of {', '.join(BACKENDS)}"
            )
        if self.decoder not in DECODERS:
            raise UnknownNameError(
                f"unknown decoder {self.decoder!r}: expected one of {', '.join(DECODERS)}"
            )
        if self.backend != "llguidance":
            if self.level is not Level.SYNTAX:
                raise UnknownNameError(
                    f"backend {self.backend} knows the syntax level only: a grammar made from "
                    "each text needs llguidance"
                )
            if self._schema() is None:
                raise UnknownNameError(
                    f"backend {self.backend} takes JSON schemas, and {self.format.name} has none"
                )

    def predict(self, documents: Iterable[Document | InputError]) -> Iterator[Prediction]:
        """One prediction for each document, in their order, as they are done.

        A document that cannot be read or answered becomes a prediction with an `error`.
        """
        return answer((self, document) for document in documents)

    @property
    def slow(self) -> str:
        """Why decoding goes token by token; empty where it does not."""
        if self.decoder == "reference":
            return "the reference decoder was asked for"
        if self.backend != "llguidance":
            return f"backend {self.backend} knows nothing else"
        return why_not(self.model)

    def _prediction(self, document: Document | InputError, jobs: Sequence[_Job]) -> Prediction:
        """What has become of the questions about a document."""
        prediction = partial(Prediction, format=self.format, level=self.level)
        if isinstance(document, InputError):
            return prediction("", "", error=str(document))
        if not jobs:
            error = f"document {document.id!r}: the text is empty"
            return prediction(document.id, document.text, error=error)
        failed = [job.outcome for job in jobs if isinstance(job.outcome, CnerError)]
        if failed:
            return prediction(document.id, document.text, error=str(failed[0]))
        replies = tuple(job.reply for job in jobs)
        entities = text_order(entity for reply in replies for entity in reply.entities)
        return prediction(document.id, document.text, entities, replies)

    def _jobs(self, document: Document | InputError) -> list[_Job]:
        """The questions about a document, in order; none about a broken or empty one."""
        if isinstance(document, InputError) or not document.text.strip():
            return []
        jobs: list[_Job] = []
        for target in self.targets:
            asked: list[_Job] = []
            for labels in self.format.questions(target.labels):
                before = tuple(asked) if self.format.name == "conv_term" else ()
                asked.append(_Job(self, document, target, labels, before))
            jobs += asked
        return jobs

    def _prepare(self, job: _Job) -> _Ready:
        text, model = job.document.text, self.model
        place = f"document {job.document.id!r}"
        target = job.target
        labels = job.labels if self.format.name != "conv_term" else target.labels
        chat = demonstrations(
            self.format, self.examples, labels, target.dataset, index=self.index
        ) + messages(
            self.format,
            text,
            labels,
            target.dataset,
            index=self.index,
            answers=[earlier.reply.settled or earlier.reply.answer for earlier in job.before],
            guideline=target.guideline_for(labels),
        )
        prompt = model.encode(chat)
        if self.backend != "llguidance":
            prompt += model.vocabulary.tokenize(_PREFIX)
        grammar = None
        if self.level is Level.FREE or self.backend != "llguidance":
            empty = self.format.write(text, (), job.labels)
        else:
            try:
                with self.costs.timed("grammar_seconds"):
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
        return _Ready(job, prompt, budget, grammar)

    def _schema(self) -> Any:
        """The JSON schema of the answers, one for all of a batch; None where there is none."""
        return self.format.schema(self.format.questions(self.targets[0].labels)[0])

    def _foreign_processor(self) -> Any:
        """A processor of outlines' own; None for ours, or for no mask."""
        if self.backend == "llguidance":
            return None
        from outlines.backends import get_json_schema_logits_processor

        schema = json.dumps(self._schema())
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
        shares = [step.kept for step in answer.steps]
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
            (fmean(shares), min(shares)) if shares else None,
        )


# ---- answering: predictors may be mixed ---------------------------------------------------------

_Asked = tuple[Predictor, Document | InputError]


def answer(asked: Iterable[_Asked]) -> Iterator[Prediction]:
    """One prediction for each document, asked for by its predictor, in their order.

    Parameters
    ----------
    asked: the predictors are alike but for format, targets, level, index and examples; with the
        reference decoder all of them mask or none.
    """
    source = iter(asked)
    first = next(source, None)
    if first is None:
        return
    predictor = first[0]
    source = chain([first], source)
    answered = _in_batches(source) if predictor.slow else _in_blocks(source, predictor)
    while True:
        with predictor.costs.timed("seconds"):
            prediction = next(answered, None)
        if prediction is None:
            return
        yield prediction


def _in_blocks(source: Iterator[_Asked], predictor: Predictor) -> Iterator[Prediction]:
    """With the fast decoder: a question is asked as soon as there is room."""
    under_way: deque[tuple[Predictor, Document | InputError, list[_Job]]] = deque()
    waiting: deque[_Job] = deque()

    def ask() -> Question | None:
        while True:
            while not waiting:
                if (pair := next(source, None)) is None:
                    return None
                jobs = pair[0]._jobs(pair[1])
                under_way.append((*pair, jobs))
                waiting.extend(job for job in jobs if not job.before)
            job = waiting.popleft()
            try:
                _, prompt, budget, grammar = job.predictor._prepare(job)
            except CnerError as error:
                job.outcome = error
                continue
            kind = f"{job.predictor.format.name}, {job.predictor.level}"
            return Question(prompt, budget, grammar, f"document {job.document.id!r}", kind, job)

    def done() -> Iterator[Prediction]:
        while under_way:
            asking, document, jobs = under_way[0]
            if not (
                all(isinstance(job.outcome, Reply) for job in jobs)
                or any(isinstance(job.outcome, CnerError) for job in jobs)
            ):
                return
            under_way.popleft()
            yield asking._prediction(document, jobs)

    decoder = FastDecoder(
        predictor.model, predictor.batch_size, record=predictor.record, costs=predictor.costs
    )
    for question, answered in decoder.decode(ask):
        job: _Job = question.key
        if isinstance(answered, CnerError):
            job.outcome = answered
        else:
            job.outcome = job.predictor._read(job, answered)
            # The next turn of a conversation goes first: its row still holds the turns before.
            jobs = next(jobs for *_, jobs in under_way if job in jobs)
            turn = len(job.before) + 1
            waiting.extendleft(
                other for other in jobs if job in other.before and len(other.before) == turn
            )
        yield from done()
    yield from done()


def _in_batches(source: Iterator[_Asked]) -> Iterator[Prediction]:
    """With the reference decoder: some documents after the others."""
    batch: list[_Asked] = []
    for pair in source:
        batch.append(pair)
        if len(batch) == pair[0].batch_size:
            yield from _answer_documents(batch)
            batch = []
    yield from _answer_documents(batch)


def _answer_documents(asked: Sequence[_Asked]) -> Iterator[Prediction]:
    """A batch at a time; the turns of conversations one after another."""
    all_jobs = [predictor._jobs(document) for predictor, document in asked]
    jobs = [job for of_one in all_jobs for job in of_one]
    for turn in sorted({len(job.before) for job in jobs}):
        # Once a document's question has failed, the rest of its conversation is left out.
        ready = [
            job
            for job in jobs
            if len(job.before) == turn
            and all(isinstance(earlier.outcome, Reply) for earlier in job.before)
        ]
        size = jobs[0].predictor.batch_size
        for at in range(0, len(ready), size):
            _answer_batch(ready[at : at + size])
    for (predictor, document), of_one in zip(asked, all_jobs, strict=True):
        yield predictor._prediction(document, of_one)


def _answer_batch(jobs: Sequence[_Job]) -> None:
    """One bad job leaves the others alone."""
    ready: list[_Ready] = []
    for job in jobs:
        try:
            ready.append(job.predictor._prepare(job))
        except CnerError as error:
            job.outcome = error
    while ready:
        try:
            answers = _generate(ready)
        except CnerError as error:
            if error.row is None:
                raise
            ready.pop(error.row).job.outcome = error
            continue
        for (job, *_), generated in zip(ready, answers, strict=True):
            job.outcome = job.predictor._read(job, generated)
        break


def _generate(ready: Sequence[_Ready]) -> list[Answer]:
    predictor = ready[0].job.predictor
    return generate(
        predictor.model,
        [prompt for _, prompt, _, _ in ready],
        [budget for _, _, budget, _ in ready],
        [grammar for *_, grammar in ready if grammar is not None] or None,
        [f"document {job.document.id!r}" for job, *_ in ready],
        record=predictor.record,
        processor=predictor._foreign_processor(),
        costs=predictor.costs,
    )


def _respelled(generated: str) -> str:
    """The JSON of an engine that chooses its own white space, in our one spelling."""
    try:
        return _PREFIX + json.dumps(json.loads(generated), ensure_ascii=False)
    except json.JSONDecodeError:
        return _PREFIX + generated
