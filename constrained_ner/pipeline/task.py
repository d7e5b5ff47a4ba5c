"""From documents to entities: prompts, batches, decoding, reading, settling."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from statistics import fmean
from threading import Lock
from time import perf_counter
from typing import Any, NamedTuple

import torch

from constrained_ner.documents import Document, Entity, Passage, text_order
from constrained_ner.engines.chat import Message
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.models import LanguageModel
from constrained_ner.engines.reference import generate
from constrained_ner.engines.sequence import Answer
from constrained_ner.engines.speculative import FastDecoder, Question, why_not
from constrained_ner.errors import (
    AnswerError,
    CnerError,
    DecodingError,
    InputError,
    LabelError,
    UnknownNameError,
)
from constrained_ner.formats import Format, Places, Problem, ProblemKind
from constrained_ner.formats.grammar import Grammar, Level
from constrained_ner.labels import check_labels
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.pipeline.confidence import Confidence
from constrained_ner.pipeline.prompts import Target, demonstrations, messages
from constrained_ner.pipeline.segments import SEGMENTS, segments
from constrained_ner.words import Span

BACKENDS = ("llguidance", "outlines_core", "xgrammar")
DECODERS = ("fast", "reference")
_PREFIX = "Answer: "


@dataclass(frozen=True)
class Reply:
    """A model's answer to one question about a segment of a document.

    Attributes
    ----------
    labels: those asked for. `segment`: what of the document was asked about.
    answer: as generated. `settled`: what `encode` writes for its entities (masked answers only).
    entities: what was read from it, with offsets into the document.
    problems: what was wrong with it, and what settling dropped; offsets in them, and in the answer,
        are the segment's.
    parses: whether the answer as generated follows its format to the letter.
    ended, forced, tokens: see `Answer`.
    kept: of the model's probability the share that the masks let through, over the tokens of the
        answer: the mean and the least; None where it was not recorded.
    confidences: of the entities, see `Confidence`; empty where they were not recorded.
    """

    labels: tuple[str, ...]
    segment: Span
    answer: str
    settled: str | None
    entities: tuple[Entity, ...]
    problems: tuple[Problem, ...]
    parses: bool
    ended: bool
    forced: bool
    tokens: int
    kept: tuple[float, float] | None = None
    confidences: tuple[float, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """A document's entities, and how they came about; or why there are none.

    Attributes
    ----------
    left_out: segments that could not be asked about in full, and why.
    passages: of the document, see `Document`.
    """

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    replies: tuple[Reply, ...] = ()
    error: str | None = None
    left_out: tuple[tuple[Span, str], ...] = ()
    passages: tuple[Passage, ...] = ()
    format: Format = field(kw_only=True)
    level: Level = field(kw_only=True)

    @property
    def confidences(self) -> dict[Entity, float]:
        """Of the entities whose answers were recorded, the best where several answers have one."""
        found: dict[Entity, float] = {}
        for reply in self.replies:
            for entity, value in zip(reply.entities, reply.confidences, strict=False):
                found[entity] = max(value, found.get(entity, 0.0))
        return found

    def to_json(self) -> dict[str, Any]:
        """One line of the output: entities with offsets and surfaces, the answers, their format."""
        confidences = self.confidences
        whole = 0, len(self.text)
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
            **({"passages": [asdict(p) for p in self.passages]} if self.passages else {}),
            **made_by,
            "entities": [
                {
                    "label": entity.label,
                    "fragments": [list(fragment) for fragment in entity.fragments],
                    "surface": entity.surface(self.text),
                    **(
                        {"confidence": round(confidences[entity], 4)}
                        if entity in confidences
                        else {}
                    ),
                }
                for entity in self.entities
            ],
            "answers": [
                {
                    "labels": list(reply.labels),
                    **({} if reply.segment == whole else {"segment": list(reply.segment)}),
                    "answer": reply.answer,
                    **({"settled": reply.settled} if _differs(reply) else {}),
                    "parses": reply.parses,
                    "problems": [[problem.kind, problem.detail] for problem in reply.problems],
                    "tokens": reply.tokens,
                    "ended": reply.ended,
                    "forced": reply.forced,
                    **({} if reply.kept is None else {"kept": [round(x, 6) for x in reply.kept]}),
                }
                for reply in self.replies
            ],
            **(
                {"left_out": [[start, end, why] for (start, end), why in self.left_out]}
                if self.left_out
                else {}
            ),
        }


def _differs(reply: Reply) -> bool:
    return reply.settled is not None and reply.settled != reply.answer


@dataclass
class Summary:
    """Counts over a run, for its last lines.

    Attributes
    ----------
    before: documents that an earlier part of the run did.
    failed: what is wrong with the documents that were left out. `partly`: with parts of others.
    """

    documents: int = 0
    before: int = 0
    failed: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    entities: int = 0
    answers: int = 0
    unparsed: int = 0
    truncated: int = 0
    forced: int = 0
    tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=perf_counter)

    def pass_over(self, record: Mapping[str, Any]) -> None:
        """A document that was done before, by its record; it counts for what went wrong only."""
        self.before += 1
        if "error" in record:
            self.failed.append(record["error"])
        self.partly += [
            f"document {record['id']!r}, {start}-{end}: {why}"
            for start, end, why in record.get("left_out", ())
        ]

    def add(self, prediction: Prediction) -> None:
        self.documents += 1
        if prediction.error is not None:
            self.failed.append(prediction.error)
        self.partly += [
            f"document {prediction.id!r}, {start}-{end}: {why}"
            for (start, end), why in prediction.left_out
        ]
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
        before = f" (and {self.before} done before)" if self.before else ""
        return [
            f"{self.documents} documents{before}, {self.entities} entities, {self.answers} "
            "answers; "
            f"{self.tokens} tokens in {seconds:.1f} s ({self.tokens / seconds:.1f} tokens/s)",
            f"answers that do not parse strictly: {self.unparsed}; cut off: {self.truncated}; "
            f"closed by the budget: {self.forced}",
            f"problems: {problems or 'none'}",
            f"documents left out: {len(self.failed)}; parts of documents: {len(self.partly)}",
        ]


@dataclass(eq=False)
class _Job:
    """One question about one segment of a document.

    Attributes
    ----------
    predictor: how it is asked and answered.
    labels: those of the question. `target`: what it is part of.
    before: the questions of the same conversation that come before it.
    after: the one that comes next.
    """

    predictor: Predictor
    document: Document
    segment: Span
    target: Target
    labels: tuple[str, ...]
    before: tuple[_Job, ...] = ()
    after: _Job | None = None
    outcome: Reply | CnerError | None = None

    @property
    def reply(self) -> Reply:
        assert isinstance(self.outcome, Reply)
        return self.outcome

    @property
    def text(self) -> str:
        return self.document.text[slice(*self.segment)]

    @property
    def place(self) -> str:
        """For messages."""
        start, end = self.segment
        part = "" if self.text == self.document.text else f", {start}-{end}"
        return f"document {self.document.id!r}{part}"


@dataclass(eq=False)
class _Asked:
    """A document and what is asked about it.

    Attributes
    ----------
    open: how many of the jobs have no outcome yet.
    """

    predictor: Predictor
    document: Document | InputError
    jobs: list[_Job]
    open: int

    def take(self, job: _Job, outcome: Reply | CnerError) -> None:
        """A job is done; where it failed, the rest of its conversation has, too."""
        while True:
            job.outcome = outcome
            self.open -= 1
            if job.after is None or isinstance(outcome, Reply):
                return
            job = job.after


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
    record: keep how sure the model was, and how much of its probability masks let through; see
        `Reply.confidences` and `Reply.kept`.
    segment: one of `SEGMENTS`: what of a text is asked about at a time; see `segments`.
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
    segment: str = "none"
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
        if self.segment not in SEGMENTS:
            raise UnknownNameError(
                f"unknown segment {self.segment!r}: expected one of {', '.join(SEGMENTS)}"
            )
        if self.backend == "llguidance" and self.level is not Level.FREE:
            self._check_spelling()
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

    def _check_spelling(self) -> None:
        """Whether the model's tokens can spell an answer with each of the labels."""
        for target in self.targets:
            for label in target.labels:
                written = self.format.write("a", [Entity(label, ((0, 1),))], [label])
                at = self.model.vocabulary.can_write(written)
                if at is not None:
                    raise LabelError(
                        f"label {label!r} cannot be asked for in {self.format.name}: the model's "
                        f"tokens cannot spell {written[at]!r}"
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
        passages = document.passages if isinstance(document, Document) else ()
        prediction = partial(Prediction, format=self.format, level=self.level, passages=passages)
        if isinstance(document, InputError):
            return prediction("", "", error=str(document))
        if not jobs:
            error = f"document {document.id!r}: the text is empty"
            return prediction(document.id, document.text, error=error)
        failed = {
            job.segment: str(job.outcome) for job in jobs if isinstance(job.outcome, CnerError)
        }
        replies = tuple(job.reply for job in jobs if isinstance(job.outcome, Reply))
        whole = {(0, len(document.text))}
        if failed and (not replies or failed.keys() <= whole):
            return prediction(document.id, document.text, error=next(iter(failed.values())))
        entities = text_order(entity for reply in replies for entity in reply.entities)
        left_out = tuple(sorted(failed.items()))
        return prediction(document.id, document.text, entities, replies, left_out=left_out)

    def _ask(self, document: Document | InputError) -> _Asked:
        """The questions about a document, in order; none about a broken or empty one."""
        jobs: list[_Job] = []
        if isinstance(document, Document):
            for segment in segments(document.text, self.segment, self._fits):
                for target in self.targets:
                    asked: list[_Job] = []
                    for labels in self.format.questions(target.labels):
                        before = tuple(asked) if self.format.name == "conv_term" else ()
                        job = _Job(self, document, segment, target, labels, before)
                        if before:
                            before[-1].after = job
                        asked.append(job)
                    jobs += asked
        return _Asked(self, document, jobs, len(jobs))

    def _chat(
        self, text: str, target: Target, labels: tuple[str, ...], answers: Sequence[str] = ()
    ) -> list[Message]:
        asked = labels if self.format.name != "conv_term" else target.labels
        return demonstrations(
            self.format, self.examples, asked, target.dataset, index=self.index
        ) + messages(
            self.format,
            text,
            asked,
            target.dataset,
            index=self.index,
            answers=answers,
            guideline=target.guideline_for(asked),
        )

    def told(self, prediction: Prediction, reply: Reply) -> tuple[str, str | None]:
        """The prompt that an answer was given to, and the source of its grammar, if it had one."""
        text = prediction.text[slice(*reply.segment)]
        target = next(t for t in self.targets if set(reply.labels) <= set(t.labels))
        answers: list[str] = []
        if self.format.name == "conv_term":
            turns = target.labels.index(reply.labels[0])
            of_text = [other for other in prediction.replies if other.segment == reply.segment]
            by_label = {other.labels[0]: other for other in of_text}
            earlier = [by_label[label] for label in target.labels[:turns]]
            answers = [other.settled or other.answer for other in earlier]
        chat = self._chat(text, target, reply.labels, answers)
        prompt = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in chat)
        if self.level is Level.FREE:
            return prompt, None
        return prompt, self.format.grammar(text, reply.labels, self.level).source

    def _budget(self, text: str, labels: Sequence[str]) -> int:
        return self.max_new_tokens or derived_budget(
            self.format, text, labels, self.model.vocabulary
        )

    def _fits(self, text: str) -> bool:
        """Whether the model has room for questions about a text with their longest answers."""
        if self.model.context is None:
            return True
        for target in self.targets:
            questions = self.format.questions(target.labels)
            turns = len(questions) if self.format.name == "conv_term" else 1
            prompt = len(self.model.encode(self._chat(text, target, questions[0])))
            if prompt + turns * self._budget(text, questions[0]) > self.model.context:
                return False
        return True

    def _prepare(self, job: _Job) -> _Ready:
        text, model, place = job.text, self.model, job.place
        answers = [earlier.reply.settled or earlier.reply.answer for earlier in job.before]
        prompt = model.encode(self._chat(text, job.target, job.labels, answers))
        if self.backend != "llguidance":
            prompt += model.vocabulary.tokenize(_PREFIX)
        grammar = None
        if self.level is not Level.FREE and self.backend == "llguidance":
            try:
                with self.costs.timed("grammar_seconds"):
                    grammar = self.format.grammar(text, job.labels, self.level)
            except CnerError as error:
                error.args = (f"{place}: {error}",)
                raise
            unwritable = model.vocabulary.can_write(text)
            if self.level is Level.FAITHFUL and unwritable is not None:
                raise InputError(
                    f"{place}: the model's tokens cannot spell {text[unwritable]!r} at offset "
                    f"{job.segment[0] + unwritable}"
                )
        budget = self._budget(text, job.labels)
        if model.context is not None:
            empty = self.format.write(text, (), job.labels)
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

    def _read(self, job: _Job, answer: Answer) -> Reply | DecodingError:
        """Entities of an answer: settled where it was masked, salvaged where it was free.

        A masked answer that does not parse would be a fault of ours, and is none to hand on.
        """
        text, written = job.text, answer.text
        shares = [step.kept for step in answer.steps]
        if self.backend != "llguidance":
            written = _respelled(written)
        settled: str | None = None
        problems: tuple[Problem, ...]
        places: Mapping[Entity, Places] = {}
        try:
            result = self.format.settle(written, text, job.labels, self.level)
            parses, entities, problems = True, result.entities, result.problems
            settled = None if self.level is Level.FREE else result.answer
            places = result.places
        except AnswerError as error:
            if self.level is not Level.FREE and self.backend == "llguidance":
                return DecodingError(f"{job.place}: {error}")
            decoded = self.format.decode(written, text, job.labels, strict=False)
            parses, entities, problems = False, decoded.entities, decoded.problems
            if not problems:
                problems = (Problem(ProblemKind.UNPARSABLE, str(error)),)
        confidences: list[float] = []
        if answer.steps and parses:
            confidence = Confidence(answer, self.model.vocabulary)
            confidences = [confidence.of(places[entity]) for entity in entities]
        return Reply(
            job.labels,
            job.segment,
            written,
            settled,
            tuple(_shifted(entity, job.segment[0]) for entity in entities),
            problems,
            parses,
            answer.ended,
            answer.forced,
            len(answer.tokens),
            (fmean(shares), min(shares)) if shares else None,
            tuple(confidences),
        )


def _shifted(entity: Entity, by: int) -> Entity:
    return Entity(entity.label, tuple((start + by, end + by) for start, end in entity.fragments))


# ---- answering: predictors may be mixed ---------------------------------------------------------

_Pair = tuple["Predictor", "Document | InputError"]


def answer(asked: Iterable[_Pair | None]) -> Iterator[Prediction]:
    """One prediction for each document, asked for by its predictor, in their order.

    Parameters
    ----------
    asked: the predictors are alike but for format, targets, level, index and examples; with the
        reference decoder all of them mask or none. None says that there is none for now; it ends
        when that is said and nothing is under way.
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


def _in_blocks(source: Iterator[_Pair | None], predictor: Predictor) -> Iterator[Prediction]:
    """With the fast decoder: a question is asked as soon as there is room."""
    under_way: deque[_Asked] = deque()
    in_hand: dict[int, tuple[_Asked, _Job]] = {}  # by id of the job

    def done() -> Iterator[Prediction]:
        while under_way and not under_way[0].open:
            asked = under_way.popleft()
            yield asked.predictor._prediction(asked.document, asked.jobs)

    rows = predictor.batch_size
    with _Preparation(source, under_way, rows) as preparation:

        def ask() -> Question | None:
            while (next_one := preparation.next()) is not None:
                asked, job, question = next_one
                if isinstance(question, Question):
                    in_hand[id(job)] = asked, job
                    return question
                asked.take(job, question)
            return None

        while True:
            decoder = FastDecoder(
                predictor.model, rows, record=predictor.record, costs=predictor.costs
            )
            try:
                for question, answered in decoder.decode(ask):
                    asked, job = in_hand.pop(id(question.key))
                    if isinstance(answered, CnerError):
                        asked.take(job, answered)
                    else:
                        asked.take(job, job.predictor._read(job, answered))
                        # The next turn goes first: its row still holds the turns before.
                        if job.after is not None and isinstance(job.outcome, Reply):
                            preparation.put_first(asked, job.after)
                    yield from done()
                break
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                # What is being answered is asked again, less of it at a time.
                lost = list(in_hand.values())
                in_hand.clear()
                if rows == 1:
                    for asked, job in lost:
                        asked.take(job, DecodingError(f"{job.place}: out of memory"))
                else:
                    for asked, job in reversed(lost):
                        preparation.put_first(asked, job)
                rows = max(1, rows // 2)
            del decoder
            _free_memory()
    yield from done()


class _Preparation:
    """Questions in their order; the next ones are made ready while the model works.

    Prompts are tokenized and grammars built on a thread beside it, some ahead. What is put first
    is made ready when it is asked for.

    Parameters
    ----------
    source: documents; None where there is none for now.
    under_way: where to put documents whose questions have begun to be asked.
    ahead: how many questions to have ready.
    """

    def __init__(self, source: Iterator[_Pair | None], under_way: deque[_Asked], ahead: int):
        self._source = source
        self._under_way = under_way
        self._most = ahead
        self._waiting: deque[tuple[_Asked, _Job]] = deque()
        self._first: deque[tuple[_Asked, _Job]] = deque()
        self._ahead: deque[tuple[_Asked, _Job, Future[Question | CnerError]]] = deque()
        self._pool = ThreadPoolExecutor(1, "cner-preparation")
        self._alone = Lock()  # a tokenizer must not be used by two threads

    def __enter__(self) -> _Preparation:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put_first(self, asked: _Asked, job: _Job) -> None:
        self._first.appendleft((asked, job))

    def next(self) -> tuple[_Asked, _Job, Question | CnerError] | None:
        """A job and its question, or what is wrong with it; None where there is none for now."""
        if self._first:
            asked, job = self._first.popleft()
            return asked, job, self._question(job)
        self._look_ahead()
        if not self._ahead:
            return None
        asked, job, question = self._ahead.popleft()
        self._look_ahead()
        return asked, job, question.result()

    def _look_ahead(self) -> None:
        while len(self._ahead) < self._most:
            while not self._waiting:
                if (pair := next(self._source, None)) is None:
                    return
                with self._alone:
                    asked = pair[0]._ask(pair[1])
                self._under_way.append(asked)
                self._waiting.extend((asked, job) for job in asked.jobs if not job.before)
            asked, job = self._waiting.popleft()
            self._ahead.append((asked, job, self._pool.submit(self._question, job)))

    def _question(self, job: _Job) -> Question | CnerError:
        predictor = job.predictor
        try:
            with self._alone:
                _, prompt, budget, grammar = predictor._prepare(job)
            question = Question(
                prompt,
                budget,
                grammar,
                name=job.place,
                kind=f"{predictor.format.name}, {predictor.level}",
                ahead=partial(predictor.format.ahead, text=job.text),
                key=job,
            )
            with predictor.costs.timed("grammar_seconds"):
                question.row = question.begin(predictor.model.vocabulary)
        except CnerError as error:
            return error
        return question


def _out_of_memory(error: RuntimeError) -> bool:
    """Of the device, or of this machine, for which torch has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _in_batches(source: Iterator[_Pair | None]) -> Iterator[Prediction]:
    """With the reference decoder: some documents after the others."""
    batch: list[_Asked] = []
    while (pair := next(source, None)) is not None:
        predictor, document = pair
        batch.append(predictor._ask(document))
        if len(batch) == predictor.batch_size:
            yield from _answer_documents(batch)
            batch = []
    yield from _answer_documents(batch)


def _answer_documents(batch: Sequence[_Asked]) -> Iterator[Prediction]:
    """A batch at a time; the turns of conversations one after another."""
    ready = [(asked, job) for asked in batch for job in asked.jobs if not job.before]
    while ready:
        size = ready[0][1].predictor.batch_size
        for at in range(0, len(ready), size):
            _answer_batch(ready[at : at + size])
        # Once a question has failed, the rest of its conversation is left out.
        ready = [
            (asked, job.after)
            for asked, job in ready
            if job.after is not None and isinstance(job.outcome, Reply)
        ]
    for asked in batch:
        yield asked.predictor._prediction(asked.document, asked.jobs)


def _answer_batch(batch: Sequence[tuple[_Asked, _Job]]) -> None:
    """One bad job leaves the others alone."""
    ready: list[tuple[_Asked, _Ready]] = []
    for asked, job in batch:
        try:
            ready.append((asked, job.predictor._prepare(job)))
        except CnerError as error:
            asked.take(job, error)
    while ready:
        try:
            answers = _generate([one for _, one in ready])
        except CnerError as error:
            if error.row is None:
                raise
            asked, bad = ready.pop(error.row)
            asked.take(bad.job, error)
            continue
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if len(ready) == 1:
                asked, bad = ready[0]
                asked.take(bad.job, DecodingError(f"{bad.job.place}: out of memory"))
                return
            _free_memory()
            half = len(ready) // 2
            for part in (ready[:half], ready[half:]):
                _answer_batch([(asked, one.job) for asked, one in part])
            return
        for (asked, (job, *_)), generated in zip(ready, answers, strict=True):
            asked.take(job, job.predictor._read(job, generated))
        break


def _generate(ready: Sequence[_Ready]) -> list[Answer]:
    predictor = ready[0].job.predictor
    return generate(
        predictor.model,
        [prompt for _, prompt, _, _ in ready],
        [budget for _, _, budget, _ in ready],
        [grammar for *_, grammar in ready if grammar is not None] or None,
        [job.place for job, *_ in ready],
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
