"""Asking a model in one way: documents become requests to an engine, and answers entities.

Where it is asked in several formats, the questions about a document go to the engine together, and
their answers become one set of entities: see `agreement`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, groupby, product
from statistics import fmean

from constrained_ner.documents import Document, Entity, text_order
from constrained_ner.engines import DEFAULT_ENGINE, check_without_grammars, choose_engine
from constrained_ner.engines.base import Answer, Chosen, Engine, Request
from constrained_ner.engines.chat import Message
from constrained_ner.engines.costs import Costs
from constrained_ner.engines.language_model import LanguageModel
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
from constrained_ner.pipeline.agreement import CUT, Agreed, Agreement, Ballot
from constrained_ner.pipeline.budget import derived_budget
from constrained_ner.pipeline.calibration import Calibration, least_for
from constrained_ner.pipeline.confidence import Confidence
from constrained_ner.pipeline.conflicts import Conflicts, Mention, Verdict
from constrained_ner.pipeline.consistency import LEAST, consistent
from constrained_ner.pipeline.conversation import Conversation
from constrained_ner.pipeline.prediction import Prediction, Reply
from constrained_ner.pipeline.prompts import Target
from constrained_ner.pipeline.scheduling import answer
from constrained_ner.pipeline.segments import SEGMENTS, segments
from constrained_ner.pipeline.view import View, view_of
from constrained_ner.words import Span

_PREFIX = "Answer:"
# The name of a format, the labels of a conversation, and those of a turn.
_Question = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(eq=False)
class Turn:
    """One question about one segment of a document.

    Attributes
    ----------
    predictor: makes the request and reads the answer. `format`: of the answer.
    labels: those that are asked for. `target`: the one that they belong to; `about`: the same with
        the labels of the whole conversation.
    before: the earlier turns of the same conversation. `after`: the next one.
    outcome: the reply, or what went wrong; None until then.
    """

    predictor: Predictor
    format: Format
    document: Document
    segment: Span
    target: Target
    about: Target
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
    format: how answers are written; of several each is asked for, and `agreement` decides.
    targets: each is asked for separately, and the entities are put together.
    level: FREE decodes without a mask, and reads answers leniently.
    max_new_tokens: the token budget of each answer; None computes it from the text.
    index: show words with their offsets or numbers in the prompt; of several formats, in those that
        only say places.
    engine: one of `engines.ENGINES`, or one that was connected to. Those that take only JSON
        schemas work at the syntax level of the JSON formats, and do not guarantee that answers are
        complete within the budget.
    examples: annotated documents that are shown to the model before each question.
    record: record how sure the model was, and the share of its probability that masks allowed; see
        `Reply.confidences` and `Reply.allowed_mass`.
    segment: one of `SEGMENTS`, how texts are cut into segments.
    conflicts: what labels contradict each other; None leaves what several answers say side by side.
        Where confidences are not recorded nothing can be decided, and all stays.
    agreement: how the answers in several formats are put together.
    calibration: what confidences are worth in these formats at this level. With it they become
        probabilities, once it is settled which entities stay.
    min_confidence: entities that are less sure are left out; from 0 to 1. By default, what is best
        on dev where there is a calibration, `agreement.CUT` of several formats, or none; with
        `consistent` at least `consistency.LEAST`.
    precision: in place of `min_confidence`, the precision on dev that it is to have.
    consistent: let the places of a document where the same words stand have one confidence; see
        `consistency`.
    on_answer: is told of each answer: the document that it is about, and how many it gets.
    costs: the costs of answering are added to it.
    """

    model: LanguageModel
    format: Format | Sequence[Format]
    targets: Sequence[Target]
    level: Level = Level.FAITHFUL
    batch_size: int = 8
    max_new_tokens: int | None = None
    index: bool = False
    engine: str | Chosen = DEFAULT_ENGINE
    examples: tuple[Document, ...] = ()
    record: bool = False
    segment: str = "none"
    conflicts: Conflicts | None = None
    agreement: Agreement = field(default_factory=Agreement)
    calibration: Calibration | None = None
    min_confidence: float | None = None
    precision: float | None = None
    consistent: bool = False
    on_answer: Callable[[Document, int], None] | None = None
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        check_labels([label for target in self.targets for label in target.labels])
        if self.segment not in SEGMENTS:
            raise UnknownNameError(
                f"unknown segment {self.segment!r}: expected one of {', '.join(SEGMENTS)}"
            )
        for name, number in (
            ("batch_size", self.batch_size),
            ("max_new_tokens", self.max_new_tokens),
        ):
            if number is not None and number < 1:
                raise InputError(f"{name} is {number}: expected 1 or more")
        self._check_formats()
        self._check_thresholds()
        if not self._chosen.capabilities.grammars:
            labels = self.targets[0].labels
            check_without_grammars(self._chosen.name, self.formats, labels, self.level)
        elif self.level != Level.FREE:
            self._check_spelling()

    def _check_formats(self) -> None:
        names = [format.name for format in self.formats]
        if not names:
            raise InputError("no format: expected at least one")
        if len(set(names)) < len(names):
            raise InputError(f"formats {', '.join(names)}: expected each once")
        if len(names) > 1 and not self.agreement.vote and not self._has_confidences:
            raise InputError(
                "an agreement of several formats needs confidences: expected a masked level, an "
                "engine that takes grammars, and that they are recorded; or a vote"
            )

    def _check_thresholds(self) -> None:
        if self.min_confidence is not None and self.precision is not None:
            raise InputError("min_confidence and precision exclude each other")
        if self.precision is not None and self.agreement.vote and len(self.formats) > 1:
            raise InputError("precision goes with an agreement: a vote has no probabilities")
        for name, value in (("min_confidence", self.min_confidence), ("precision", self.precision)):
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
                raise InputError(f"{name} is {value!r}: expected a number from 0 to 1")
        needs = {
            "min_confidence": self.min_confidence,
            "precision": self.precision,
            "consistent": self.consistent,
        }
        for name, value in needs.items():
            if value and not self._has_confidences:
                raise InputError(
                    f"{name} needs confidences: expected a masked level, an engine that tells "
                    "probabilities under the mask, and that they are recorded"
                )
        _ = self._least  # or it raises

    def _check_spelling(self) -> None:
        """See that the model's tokens can spell an answer with each of the labels."""
        for format, target in product(self.formats, self.targets):
            for label in target.labels:
                written = format.write("a", [Entity(label, ((0, 1),))], [label])
                at = self.model.vocabulary.first_unspellable(written)
                if at is not None:
                    raise LabelError(
                        f"label {label!r} cannot be asked for in {format.name}: the model's "
                        f"tokens cannot spell {written[at]!r}"
                    )

    def check_room(self) -> None:
        """See that the model has room for each of the questions, before there is a text.

        Raises
        ------
        InputError: it has none for one of them.
        """
        for reason in self._crowded.values():
            raise InputError(reason)

    @cached_property
    def _crowded(self) -> dict[_Question, str]:
        """The questions for which the model has no room, and why."""
        found: dict[_Question, str] = {}
        context = self.model.context
        if context is None:
            return found
        for format, target in product(self.formats, self.targets):
            for labels in format.conversations(target.labels):
                for number, asked in enumerate(format.turns(labels)):
                    chat = self._messages(format, "", target.of(labels), [""] * number)
                    taken = len(self.model.encode(chat)) + self._shortest(format, "", asked)
                    if taken > context:
                        found[format.name, labels, asked] = (
                            f"{format.name}: the question about {', '.join(asked):.80} takes "
                            f"{taken} tokens without a text, and the model has room for {context}: "
                            "expected shorter labels, guidelines or examples"
                        )
        return found

    @cached_property
    def formats(self) -> tuple[Format, ...]:
        """Those of the answers."""
        return (self.format,) if isinstance(self.format, Format) else tuple(self.format)

    def predict(self, documents: Iterable[Document | InputError]) -> Iterator[Prediction]:
        """A prediction for each document, in the same order, as they are done.

        For a document that cannot be read or answered, the prediction has an `error`.
        """
        return answer((self, document) for document in documents)

    def predict_chunks(
        self, chunks: Iterable[Sequence[Document | InputError]]
    ) -> Iterator[Iterator[Prediction]]:
        """`predict` of each chunk by itself: no answer depends on another chunk."""
        return map(self.predict, chunks)

    @cached_property
    def _chosen(self) -> Chosen:
        if isinstance(self.engine, str):
            return choose_engine(self.engine, self.model)
        return self.engine

    @property
    def _has_confidences(self) -> bool:
        able = self._chosen.capabilities
        masked = self.level != Level.FREE and able.grammars and able.log_probabilities
        return self.record and masked

    @cached_property
    def _least(self) -> float:
        """The threshold of confidences, or of probabilities where there is a calibration."""
        if self.precision is not None:
            names = ",".join(format.name for format in self.formats)
            return least_for(self.calibration, self.precision, names, str(self.level))
        if self.min_confidence is not None:
            return self.min_confidence
        least = 0.0
        several = len(self.formats) > 1
        if self._has_confidences and not (several and self.agreement.vote):
            if self.calibration is not None:
                least = self.calibration.best.least
            elif several:
                least = CUT
        return max(least, LEAST) if self.consistent else least

    @property
    def unsupported_reason(self) -> str:
        """Why the reference engine is used instead of the speculative one; empty if it is not."""
        return self._chosen.unsupported_reason

    def new_engine(self) -> Engine:
        return self._chosen.make(self.model, self.batch_size, record=self.record, costs=self.costs)

    def prediction(self, document: Document | InputError, turns: Sequence[Turn]) -> Prediction:
        """The prediction for a document, once all of its turns have an outcome."""
        prediction = partial(Prediction, formats=self.formats, level=self.level)
        if isinstance(document, InputError):
            return prediction("", "", error=str(document))
        prediction = partial(prediction, passages=document.passages, meta=document.meta)
        if not turns:
            error = f"document {document.id!r}: the text is empty"
            return prediction(document.id, document.text, error=error)
        replies = tuple(turn.outcome for turn in turns if isinstance(turn.outcome, Reply))
        failed = [turn for turn in turns if isinstance(turn.outcome, CnerError)]
        if not replies:
            more = f" (and {len(failed) - 1} more of its questions)" if len(failed) > 1 else ""
            return prediction(document.id, document.text, error=f"{failed[0].outcome}{more}")
        agreed = self._agreed(document, turns) if len(self.formats) > 1 else []
        verdicts = self._verdicts(replies, agreed)
        prediction = partial(
            prediction,
            document.id,
            document.text,
            replies=replies,
            left_out=tuple(sorted({(turn.segment, self._reason(turn)) for turn in failed})),
        )
        if verdicts is None:
            every = (entity for reply in replies for entity in reply.entities)
            return prediction(entities=text_order(every))
        worth = self.calibration.probability if self.calibration else float
        surest_last = sorted((one for _, one in agreed), key=lambda one: one.score)
        by_format = {self._named(one.entity): one.by_format for one in surest_last}
        confidences = {e: worth(verdict.confidence) for e, verdict in verdicts.items()}
        if self.consistent:
            asked = {
                label: [reply.segment for reply in replies if label in reply.labels]
                for target in self.targets
                for label in target.labels
            }
            confidences = consistent(document.text, confidences, asked)
        unsure: set[Entity] = set()
        if len(self.formats) == 1:  # several count them as sure
            # Of an answer that came back without probabilities, as an engine of others may give it.
            said = (reply.entities for reply in replies if not _is_sure(reply))
            unsure = {self._named(entity) for entities in said for entity in entities}
        return prediction(
            entities=text_order(confidences.keys() | unsure),
            confidences=confidences,
            calibrated=self.calibration is not None,
            also={
                entity: {label: worth(confidence) for label, confidence in verdict.also.items()}
                for entity, verdict in verdicts.items()
                if verdict.also
            },
            by_format={e: by_format[e] for e in verdicts if e in by_format},
        ).at_least(self._least)

    def _named(self, entity: Entity) -> Entity:
        return self.conflicts.named(entity) if self.conflicts else entity

    def _reason(self, failed: Turn) -> str:
        """Why a turn has no reply, for the record, which says of which part of which document."""
        format = f"{failed.format.name}: " if len(self.formats) > 1 else ""
        one_of_several = set(failed.labels) != set(failed.target.labels)
        labels = f"{', '.join(failed.labels)}: " if one_of_several else ""
        return format + labels + str(failed.outcome).removeprefix(f"{failed.place}: ")

    def _verdicts(
        self, replies: Sequence[Reply], agreed: Sequence[tuple[int, Agreed]]
    ) -> dict[Entity, Verdict] | None:
        """What the replies say together; None where they cannot say how sure they are.

        Parameters
        ----------
        agreed: what came out of several formats, with the number of the target.
        """
        if len(self.formats) > 1:
            mentions = [Mention(one.entity, one.score, number) for number, one in agreed]
        elif not self._has_confidences:
            return None
        else:
            mentions = [
                Mention(entity, confidence, number)
                for number, reply in enumerate(replies)
                if _is_sure(reply)
                for entity, confidence in zip(reply.entities, reply.confidences, strict=True)
            ]
        if self.conflicts is None:
            ordered = sorted(mentions, key=lambda mention: mention.confidence)
            return {mention.entity: Verdict(mention.confidence, {}) for mention in ordered}
        return self.conflicts.settled(mentions)

    def _agreed(self, document: Document, turns: Sequence[Turn]) -> list[tuple[int, Agreed]]:
        """What the formats have together for each target, with its number."""
        found: list[tuple[int, Agreed]] = []
        for number, target in enumerate(self.targets):
            ballots = []
            about = (turn for turn in turns if turn.target is target)
            for (format, segment), same in groupby(about, key=lambda t: (t.format, t.segment)):
                replies = [turn.outcome for turn in same if isinstance(turn.outcome, Reply)]
                if replies:
                    ballots.append(_ballot(format, segment, replies, self.level))
            agreed = self.agreement.settled(ballots, document.text)
            found += [(number, one) for one in agreed]
        return found

    def turns(self, document: Document | InputError) -> list[Turn]:
        """The questions about a document, in order; none if it is broken or empty."""
        found: list[Turn] = []
        if isinstance(document, InputError):
            return found
        for format in self.formats:
            fits = partial(self._fits, format)
            for segment in segments(document.text, self.segment, fits):
                for target in self.targets:
                    for labels in format.conversations(target.labels):
                        about = target.of(labels)
                        before: tuple[Turn, ...] = ()
                        for asked in format.turns(labels):
                            turn = Turn(
                                self, format, document, segment, target, about, asked, before
                            )
                            if before:
                                before[-1].after = turn
                            before = (*before, turn)
                        found += before
        return found

    def _messages(
        self, format: Format, text: str, about: Target, answers: Sequence[str]
    ) -> list[Message]:
        """The prompt of the turn of a conversation that comes after these answers."""
        index = self.index and (format.by_place or len(self.formats) == 1)
        talk = Conversation(format, text, about, index)
        shown = [message for one in self.examples for message in talk.demonstration(one)]
        return shown + talk.messages(answers)

    def explain(self, prediction: Prediction, reply: Reply) -> tuple[str, str | None]:
        """The prompt of an answer, and the source of its grammar; None for free answers."""
        text = view_of(prediction.text, reply.segment).text
        format = next(format for format in self.formats if format.name == reply.format)
        target = next(t for t in self.targets if set(reply.labels) <= set(t.labels))
        every = format.conversations(target.labels)
        about = target.of(next(labels for labels in every if set(reply.labels) <= set(labels)))
        by_labels = {
            other.labels: other
            for other in prediction.replies
            if (other.format, other.segment) == (reply.format, reply.segment)
        }
        turns = format.turns(about.labels)
        answers = [by_labels[labels].shown for labels in turns[: turns.index(reply.labels)]]
        chat = self._messages(format, text, about, answers)
        prompt = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in chat)
        if self.level == Level.FREE:
            return prompt, None
        return prompt, format.grammar(text, reply.labels, self.level).source

    def _fits(self, format: Format, text: str) -> bool:
        """Whether the text has grammars, and the model room for questions with long answers."""
        if self.level == Level.FAITHFUL and format.text_obstacle(text) is not None:
            return False
        if self.model.context is None or self._has_room(format, text):
            return True
        # A question without room for any text would make this one be cut into words.
        return bool(self._crowded) and self._has_room(format, text, self._crowded)

    def _has_room(self, format: Format, text: str, without: Collection[_Question] = ()) -> bool:
        """Whether the context holds the questions about a text, but for some, with long answers."""
        assert self.model.context is not None
        for target in self.targets:
            chats, asked = [], []
            for labels in format.conversations(target.labels):
                turns = [
                    turn
                    for turn in format.turns(labels)
                    if (format.name, labels, turn) not in without
                ]
                if turns:
                    earlier = [""] * (len(turns) - 1)
                    chats.append(self._messages(format, text, target.of(labels), earlier))
                    asked.append(turns)
            if not asked:
                continue
            # Labels and guidelines are what conversations differ in: of several, the longest.
            chat = max(chats, key=lambda chat: sum(len(message["content"]) for message in chat))
            longest = max(chain.from_iterable(asked), key=lambda labels: sum(map(len, labels)))
            answer = derived_budget(format, text, longest, self.model.vocabulary)
            # What a user allows is no more than a bound.
            answer = min(answer, self.max_new_tokens or answer)
            most = max(map(len, asked))
            if len(self.model.encode(chat)) + most * answer > self.model.context:
                return False
        return True

    def _shortest(self, format: Format, text: str, labels: Sequence[str]) -> int:
        """How many tokens the answer that finds nothing takes, its end included."""
        return len(self.model.vocabulary.tokenize(format.write(text, (), labels))) + 1

    def request(self, turn: Turn) -> Request:
        """The request to an engine for a turn.

        Raises
        ------
        GrammarError: there is no grammar for the text.
        InputError: the model's tokens cannot spell the text, or its context is too short for it.
        """
        format, text, model, place = turn.format, turn.text, self.model, turn.place
        chat = self._messages(format, text, turn.about, turn.answers)
        prompt = model.encode(chat)
        grammar = schema = None
        if not self._chosen.capabilities.grammars:
            prompt += model.vocabulary.tokenize(_PREFIX)
            schema = format.schema(turn.labels)
        elif self.level != Level.FREE:
            grammar = self._grammar(turn)
        budget = self.max_new_tokens
        if budget is None:
            budget = derived_budget(format, text, turn.labels, model.vocabulary)
        if model.context is not None:
            shortest = self._shortest(format, text, turn.labels)
            if len(prompt) + shortest > model.context:
                crowded = self._crowded.get((format.name, turn.about.labels, turn.labels))
                raise InputError(
                    f"{place}: "
                    + (
                        crowded
                        or f"the text is too long: the prompt takes {len(prompt)} tokens and the "
                        f"shortest answer {shortest}, and the model has room for {model.context}"
                    )
                )
            budget = min(budget, model.context - len(prompt))
        return Request(
            prompt,
            budget,
            grammar,
            name=place,
            kind=f"{format.name}, {self.level}",
            propose_draft=partial(format.propose_draft, text=text),
            key=turn,
            schema=schema,
            messages=chat,
        )

    def _grammar(self, turn: Turn) -> Grammar:
        try:
            with self.costs.timed("grammar_seconds"):
                grammar = turn.format.grammar(turn.text, turn.labels, self.level)
        except CnerError as error:
            error.args = (f"{turn.place}: {error}",)
            raise
        if self.level == Level.FAITHFUL:
            self._check_text(turn)
        return grammar

    def _check_text(self, turn: Turn) -> None:
        """See that the model's tokens can spell all that an answer may copy from the text."""
        vocabulary, text = self.model.vocabulary, turn.text
        spelt = turn.format.spelt(text, turn.labels)  # it begins with the text
        at = vocabulary.first_unspellable(spelt)
        if at is None:
            return
        what = f"{turn.place}: the model's tokens cannot spell {spelt[at]!r}"
        if at < len(text):
            raise InputError(f"{what} at offset {turn.view.at(at)}")
        raise InputError(f"{what}, which {turn.format.name} needs to write of this text")

    def read(self, turn: Turn, answer: Answer) -> Reply | DecodingError:
        """The reply that an answer stands for.

        Masked answers are parsed strictly, and free ones leniently where they do not parse. A
        masked answer that does not parse is a fault of this package, and becomes an error. One that
        an engine gave without its mask is read as a free one, and says so.
        """
        text, written = turn.text, answer.text
        level = self.level if answer.guaranteed else Level.FREE
        shares = [step.allowed_mass for step in answer.steps if step.allowed_mass is not None]
        if not self._chosen.capabilities.grammars:
            written = _respelled(written)
        settled: str | None = None
        problems: tuple[Problem, ...]
        places: Mapping[Entity, Places] = {}
        try:
            result = turn.format.settle(written, text, turn.labels, level)
            parses, entities, problems = True, result.entities, result.problems
            settled = None if level == Level.FREE else result.answer
            places = result.places
        except AnswerError as error:
            if level != Level.FREE and self._chosen.capabilities.grammars:
                return DecodingError(f"{turn.place}: {error}")
            decoded = turn.format.decode(written, text, turn.labels, strict=False)
            parses, entities, problems = False, decoded.entities, decoded.problems
            if not problems:
                problems = (Problem(ProblemKind.UNPARSABLE, str(error)),)
        if not answer.guaranteed:
            problems = (Problem(ProblemKind.UNMASKED, self._chosen.name), *problems)
        confidences: list[float] = []
        if answer.steps and parses:
            confidence = Confidence(answer, self.model.vocabulary)
            confidences = [confidence.of(places[entity]) for entity in entities]
        return Reply(
            turn.format.name,
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


def _is_sure(reply: Reply) -> bool:
    """Whether each of its entities has a confidence."""
    return len(reply.confidences) == len(reply.entities)


def _ballot(format: Format, segment: Span, replies: Sequence[Reply], level: Level) -> Ballot:
    """What a format has about a segment; entities without a confidence count as sure."""
    confidences: dict[Entity, float] = {}
    for reply in replies:
        known = reply.confidences or (1.0,) * len(reply.entities)
        confidences |= zip(reply.entities, known, strict=True)
    labels = frozenset(label for reply in replies for label in reply.labels)
    return Ballot(format, labels, segment, confidences, level)


def _respelled(generated: str) -> str:
    """The JSON of an engine that chooses its own white space, respelled as formats write it."""
    try:
        return f"{_PREFIX} {json.dumps(json.loads(generated), ensure_ascii=False)}"
    except (ValueError, RecursionError):  # no JSON, or a number of thousands of digits
        return f"{_PREFIX} {generated.strip()}"
