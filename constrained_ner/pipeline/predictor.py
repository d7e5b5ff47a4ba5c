"""Asking a model in one way: documents become requests to an engine, and answers entities."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from statistics import fmean

from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.engines import DEFAULT_ENGINE, Chosen, choose_engine
from constrained_ner.engines.base import Answer, Engine, Request
from constrained_ner.engines.chat import Message
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.models import LanguageModel
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
from constrained_ner.pipeline.conflicts import Conflicts, Mention, Verdict
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prediction import Prediction, Reply
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.scheduling import answer
from constrained_ner.pipeline.segments import SEGMENTS, segments
from constrained_ner.pipeline.view import View, view_of
from constrained_ner.words import Span

_PREFIX = "Answer: "


@dataclass(eq=False)
class Turn:
    """One question about one segment of a document.

    Attributes
    ----------
    predictor: makes the request and reads the answer.
    labels: those that are asked for. `target`: the one that they belong to.
    before: the earlier turns of the same conversation. `after`: the next one.
    outcome: the reply, or what went wrong; None until then.
    """

    predictor: Predictor
    document: Document
    segment: Span
    target: Target
    labels: tuple[str, ...]
    before: tuple[Turn, ...] = ()
    after: Turn | None = None
    outcome: Reply | CnerError | None = None

    @cached_property
    def view(self) -> View:
        """The segment as the model is shown it."""
        return view_of(self.document.text, self.segment)

    @property
    def text(self) -> str:
        return self.view.text

    @property
    def answers(self) -> list[str]:
        """The answers of earlier turns, which the prompt shows."""
        replies = [turn.outcome for turn in self.before]
        return [reply.shown for reply in replies if isinstance(reply, Reply)]

    @property
    def place(self) -> str:
        """The document and the segment, for messages."""
        start, end = self.segment
        part = "" if (start, end) == (0, len(self.document.text)) else f", {start}-{end}"
        return f"document {self.document.id!r}{part}"


@dataclass(frozen=True)
class Predictor:
    """A model, and how it is asked: in which format, for what, and how constrained.

    Parameters
    ----------
    targets: each is asked for separately, and the entities are put together.
    level: FREE decodes without a mask, and reads answers leniently.
    max_new_tokens: the token budget of each answer; None computes it from the text.
    index: show words with their offsets or numbers in the prompt.
    engine: one of `engines.ENGINES`. Those that take only JSON schemas work at the syntax level of
        the JSON formats, and do not guarantee that answers are complete within the budget.
    examples: annotated documents that are shown to the model before each question.
    record: record how sure the model was, and the share of its probability that masks allowed; see
        `Reply.confidences` and `Reply.allowed_mass`.
    segment: one of `SEGMENTS`, how texts are cut into segments.
    conflicts: what labels contradict each other; None leaves what several answers say side by side.
        Where confidences are not recorded nothing can be decided, and all stays.
    min_confidence: entities that the model is less sure of are left out; from 0 to 1.
    on_answer: is told of each answer: the document that it is about, and how many it gets.
    costs: the costs of answering are added to it.
    """

    model: LanguageModel
    format: Format
    targets: Sequence[Target]
    level: Level = Level.FAITHFUL
    batch_size: int = 8
    max_new_tokens: int | None = None
    index: bool = False
    engine: str = DEFAULT_ENGINE
    examples: tuple[Document, ...] = ()
    record: bool = False
    segment: str = "none"
    conflicts: Conflicts | None = None
    min_confidence: float = 0.0
    on_answer: Callable[[Document, int], None] | None = None
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        check_labels([label for target in self.targets for label in target.labels])
        if self.segment not in SEGMENTS:
            raise UnknownNameError(
                f"unknown segment {self.segment!r}: expected one of {', '.join(SEGMENTS)}"
            )
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"min_confidence is {self.min_confidence}: expected 0 to 1")
        if self.min_confidence and not (self.record and self._knows_confidences):
            raise InputError(
                "min_confidence needs confidences: expected a masked level, an engine that takes "
                "grammars, and that they are recorded"
            )
        if not self._chosen.capabilities.grammars:
            if self.level is not Level.SYNTAX:
                raise UnknownNameError(
                    f"the engine {self.engine} knows the syntax level only: it takes no grammar "
                    "made from a text"
                )
            if self.format.schema(self.format.questions(self.targets[0].labels)[0]) is None:
                raise UnknownNameError(
                    f"the engine {self.engine} takes JSON schemas, and {self.format.name} has none"
                )
        elif self.level is not Level.FREE:
            self._check_spelling()

    def _check_spelling(self) -> None:
        """See that the model's tokens can spell an answer with each of the labels."""
        for target in self.targets:
            for label in target.labels:
                written = self.format.write("a", [Entity(label, ((0, 1),))], [label])
                at = self.model.vocabulary.first_unspellable(written)
                if at is not None:
                    raise LabelError(
                        f"label {label!r} cannot be asked for in {self.format.name}: the model's "
                        f"tokens cannot spell {written[at]!r}"
                    )

    def predict(self, documents: Iterable[Document | InputError]) -> Iterator[Prediction]:
        """A prediction for each document, in the same order, as they are done.

        For a document that cannot be read or answered, the prediction has an `error`.
        """
        return answer((self, document) for document in documents)

    @cached_property
    def _chosen(self) -> Chosen:
        return choose_engine(self.engine, self.model)

    @property
    def _knows_confidences(self) -> bool:
        return self.level is not Level.FREE and self._chosen.capabilities.grammars

    @property
    def unsupported_reason(self) -> str:
        """Why the reference engine is used instead of the speculative one; empty if it is not."""
        return self._chosen.unsupported_reason

    def new_engine(self) -> Engine:
        return self._chosen.make(self.model, self.batch_size, record=self.record, costs=self.costs)

    def prediction(self, document: Document | InputError, turns: Sequence[Turn]) -> Prediction:
        """The prediction for a document, once all of its turns have an outcome."""
        prediction = partial(Prediction, format=self.format, level=self.level)
        if isinstance(document, InputError):
            return prediction("", "", error=str(document))
        prediction = partial(prediction, passages=document.passages, meta=document.meta)
        if not turns:
            error = f"document {document.id!r}: the text is empty"
            return prediction(document.id, document.text, error=error)
        outcomes = [(turn.segment, turn.outcome) for turn in turns]
        failed = {segment: str(o) for segment, o in outcomes if isinstance(o, CnerError)}
        replies = tuple(outcome for _, outcome in outcomes if isinstance(outcome, Reply))
        whole = {(0, len(document.text))}
        if failed and (not replies or failed.keys() <= whole):
            return prediction(document.id, document.text, error=next(iter(failed.values())))
        verdicts = self._verdicts(replies)
        every = (entity for reply in replies for entity in reply.entities)
        return prediction(
            document.id,
            document.text,
            text_order(every if verdicts is None else verdicts),
            replies,
            left_out=tuple(sorted(failed.items())),
            confidences={e: verdict.confidence for e, verdict in (verdicts or {}).items()},
            also={e: verdict.also for e, verdict in (verdicts or {}).items() if verdict.also},
        ).at_least(self.min_confidence)

    def _verdicts(self, replies: Sequence[Reply]) -> dict[Entity, Verdict] | None:
        """What the replies say together; None where they do not say how sure they are."""
        if not self.record or any(len(r.confidences) < len(r.entities) for r in replies):
            return None
        mentions = [
            Mention(entity, confidence, number)
            for number, reply in enumerate(replies)
            for entity, confidence in zip(reply.entities, reply.confidences, strict=True)
        ]
        if self.conflicts is None:
            ordered = sorted(mentions, key=lambda mention: mention.confidence)
            return {mention.entity: Verdict(mention.confidence, {}) for mention in ordered}
        return self.conflicts.settled(mentions)

    def turns(self, document: Document | InputError) -> list[Turn]:
        """The questions about a document, in order; none if it is broken or empty."""
        found: list[Turn] = []
        if isinstance(document, InputError):
            return found
        for segment in segments(document.text, self.segment, self._fits):
            for target in self.targets:
                for labels in self.format.conversations(target.labels):
                    before: tuple[Turn, ...] = ()
                    for asked in self.format.turns(labels):
                        turn = Turn(self, document, segment, target, asked, before)
                        if before:
                            before[-1].after = turn
                        before = (*before, turn)
                    found += before
        return found

    def _about(self, target: Target, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels of the conversation that has these labels in one of its turns."""
        every = self.format.conversations(target.labels)
        return next(about for about in every if set(labels) <= set(about))

    def _messages(
        self, text: str, target: Target, labels: tuple[str, ...], answers: Sequence[str] = ()
    ) -> list[Message]:
        """The prompt of a turn that asks for these labels after these answers."""
        about = target.of(self._about(target, labels))
        talk = Conversation(self.format, text, about, self.index)
        shown = [message for one in self.examples for message in talk.demonstration(one)]
        return shown + talk.messages(answers)

    def explain(self, prediction: Prediction, reply: Reply) -> tuple[str, str | None]:
        """The prompt of an answer, and the source of its grammar; None for free answers."""
        text = view_of(prediction.text, reply.segment).text
        target = next(t for t in self.targets if set(reply.labels) <= set(t.labels))
        by_labels = {
            other.labels: other for other in prediction.replies if other.segment == reply.segment
        }
        turns = self.format.turns(self._about(target, reply.labels))
        answers = [by_labels[labels].shown for labels in turns[: turns.index(reply.labels)]]
        chat = self._messages(text, target, reply.labels, answers)
        prompt = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in chat)
        if self.level is Level.FREE:
            return prompt, None
        return prompt, self.format.grammar(text, reply.labels, self.level).source

    def _budget(self, text: str, labels: Sequence[str]) -> int:
        return self.max_new_tokens or derived_budget(
            self.format, text, labels, self.model.vocabulary
        )

    def _fits(self, text: str) -> bool:
        """Whether the text has grammars, and the model room for questions with long answers."""
        if self.level is Level.FAITHFUL and self.format.text_obstacle(text) is not None:
            return False
        if self.model.context is None:
            return True
        for target in self.targets:
            labels = self.format.conversations(target.labels)[0]
            turns = self.format.turns(labels)
            prompt = len(self.model.encode(self._messages(text, target, turns[0])))
            if prompt + len(turns) * self._budget(text, turns[0]) > self.model.context:
                return False
        return True

    def request(self, turn: Turn) -> Request:
        """The request to an engine for a turn.

        Raises
        ------
        GrammarError: there is no grammar for the text.
        InputError: the model's tokens cannot spell the text, or its context is too short for it.
        """
        text, model, place = turn.text, self.model, turn.place
        prompt = model.encode(self._messages(text, turn.target, turn.labels, turn.answers))
        grammar = schema = None
        if not self._chosen.capabilities.grammars:
            prompt += model.vocabulary.tokenize(_PREFIX)
            schema = self.format.schema(turn.labels)
        elif self.level is not Level.FREE:
            grammar = self._grammar(turn)
        budget = self._budget(text, turn.labels)
        if model.context is not None:
            empty = self.format.write(text, (), turn.labels)
            shortest = len(model.vocabulary.tokenize(empty)) + 1
            if len(prompt) + shortest > model.context:
                raise InputError(
                    f"{place}: the text is too long: the prompt takes {len(prompt)} tokens and the "
                    f"shortest answer {shortest}, and the model has room for {model.context}"
                )
            budget = min(budget, model.context - len(prompt))
        return Request(
            prompt,
            budget,
            grammar,
            name=place,
            kind=f"{self.format.name}, {self.level}",
            propose_draft=partial(self.format.propose_draft, text=text),
            key=turn,
            schema=schema,
        )

    def _grammar(self, turn: Turn) -> Grammar:
        try:
            with self.costs.timed("grammar_seconds"):
                grammar = self.format.grammar(turn.text, turn.labels, self.level)
        except CnerError as error:
            error.args = (f"{turn.place}: {error}",)
            raise
        if self.level is Level.FAITHFUL:
            self._check_text(turn)
        return grammar

    def _check_text(self, turn: Turn) -> None:
        """See that the model's tokens can spell all that an answer may copy from the text."""
        vocabulary, text = self.model.vocabulary, turn.text
        spelt = self.format.spelt(text, turn.labels)  # it begins with the text
        at = vocabulary.first_unspellable(spelt)
        if at is None:
            return
        what = f"{turn.place}: the model's tokens cannot spell {spelt[at]!r}"
        if at < len(text):
            raise InputError(f"{what} at offset {turn.view.at(at)}")
        raise InputError(f"{what}, which {self.format.name} needs to write of this text")

    def read(self, turn: Turn, answer: Answer) -> Reply | DecodingError:
        """The reply that an answer stands for.

        Masked answers are parsed strictly, and free ones leniently where they do not parse. A
        masked answer that does not parse is a fault of this package, and becomes an error.
        """
        text, written = turn.text, answer.text
        shares = [step.allowed_mass for step in answer.steps]
        if not self._chosen.capabilities.grammars:
            written = _respelled(written)
        settled: str | None = None
        problems: tuple[Problem, ...]
        places: Mapping[Entity, Places] = {}
        try:
            result = self.format.settle(written, text, turn.labels, self.level)
            parses, entities, problems = True, result.entities, result.problems
            settled = None if self.level is Level.FREE else result.answer
            places = result.places
        except AnswerError as error:
            if self.level is not Level.FREE and self._chosen.capabilities.grammars:
                return DecodingError(f"{turn.place}: {error}")
            decoded = self.format.decode(written, text, turn.labels, strict=False)
            parses, entities, problems = False, decoded.entities, decoded.problems
            if not problems:
                problems = (Problem(ProblemKind.UNPARSABLE, str(error)),)
        confidences: list[float] = []
        if answer.steps and parses:
            confidence = Confidence(answer, self.model.vocabulary)
            confidences = [confidence.of(places[entity]) for entity in entities]
        return Reply(
            turn.labels,
            turn.segment,
            written,
            settled,
            tuple(map(turn.view.in_document, entities)),
            problems,
            parses,
            answer.ended,
            answer.forced,
            len(answer.tokens),
            (fmean(shares), min(shares)) if shares else None,
            tuple(confidences),
        )


def _respelled(generated: str) -> str:
    """The JSON of an engine that chooses its own white space, respelled as formats write it."""
    try:
        return _PREFIX + json.dumps(json.loads(generated), ensure_ascii=False)
    except json.JSONDecodeError:
        return _PREFIX + generated
