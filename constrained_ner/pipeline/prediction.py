"""Predictions in Python, and the records that `cner predict` writes of them."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from time import perf_counter
from typing import (
    Annotated,
    Any,
    NotRequired,  # pydantic takes no other before Python 3.12
)

from pydantic import Field
from typing_extensions import TypedDict

from constrained_ner.corpora.entity_table import frame
from constrained_ner.corpora.jsonl import document_from_json, entity_from_json
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError, reason_of
from constrained_ner.formats import Format, Options, Problem, ProblemKind, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.labels import names_of
from constrained_ner.pipeline.segments import sections
from constrained_ner.words import Span

_log = logging.getLogger(__name__)

# ---- records: what is written to files, and what the server sends


class EntityRecord(TypedDict):
    """An entity. Each fragment has a start and an end, half-open, in code points of the text."""

    label: Annotated[str, Field(description="One of the labels that were asked for.")]
    fragments: Annotated[
        list[tuple[int, int]], Field(description="Where it is; several if it is discontinuous.")
    ]
    surface: Annotated[str, Field(description="The text of its fragments, joined by one space.")]
    confidence: Annotated[
        NotRequired[float], Field(description="How sure the model is, 0 to 1; of masked answers.")
    ]
    also: Annotated[
        NotRequired[dict[str, float]],
        Field(description="What other answers call the same words, and how sure those are."),
    ]
    by_format: Annotated[
        NotRequired[dict[str, float]],
        Field(description="How sure the model was in each of several formats; 0: it has it not."),
    ]
    section: Annotated[
        NotRequired[str], Field(description="The title of the heading that it stands under.")
    ]


class AnswerRecord(TypedDict):
    """An answer of the model about a segment of the text: without one, about all of it.

    Offsets in the answer, and in its problems, are those of the segment as the model was shown it,
    with its white space as single spaces. The server adds the prompt and the grammar where it is
    asked for details.
    """

    format: Annotated[
        NotRequired[str], Field(description="How it is written, where there are several formats.")
    ]
    labels: Annotated[list[str], Field(description="What was asked for.")]
    answer: Annotated[str, Field(description="As the model wrote it.")]
    parses: Annotated[bool, Field(description="Whether it follows its format exactly.")]
    problems: Annotated[
        list[tuple[str, str]],
        Field(description="What is wrong with it, or was dropped: each a kind and its details."),
    ]
    tokens: Annotated[int, Field(description="How many it has, its end included.")]
    ended: Annotated[bool, Field(description="Whether it came to its end within its budget.")]
    forced: Annotated[bool, Field(description="Whether its budget made it come to its end.")]
    segment: Annotated[
        NotRequired[Span], Field(description="Start and end of the part of the text it is about.")
    ]
    section: Annotated[
        NotRequired[str], Field(description="The title of the heading that it begins under.")
    ]
    settled: Annotated[
        NotRequired[str],
        Field(description="The entities that were read, written in the format, where it differs."),
    ]
    allowed_mass: Annotated[
        NotRequired[tuple[float, float]],
        Field(
            description="The share of the model's probability that the grammar let through: the "
            "mean and the least over the tokens."
        ),
    ]
    prompt: Annotated[NotRequired[str], Field(description="What the model was asked.")]
    grammar: Annotated[
        NotRequired[str | None], Field(description="The grammar's source; null of free answers.")
    ]


class PassageRecord(TypedDict):
    """A named part of the text, such as its title."""

    type: Annotated[str, Field(description="Its name.")]
    start: Annotated[int, Field(description="Its first character.")]
    end: Annotated[int, Field(description="Behind its last character.")]


class PredictionRecord(TypedDict):
    """The entities of a document, and the answers that they were read from."""

    id: Annotated[str, Field(description="The document.")]
    text: Annotated[str, Field(description="Its text, as it was given.")]
    format: Annotated[
        str, Field(description="How the answers are written; several with commas between them.")
    ]
    level: Annotated[Level, Field(description="How much of the answers their grammars decided.")]
    options: Annotated[dict[str, Any], Field(description="Those of the format.")]
    entities: Annotated[list[EntityRecord], Field(description="In the order of the text.")]
    answers: Annotated[
        list[AnswerRecord], Field(description="Format by format, in the order of the segments.")
    ]
    calibrated: Annotated[
        NotRequired[bool],
        Field(description="True where confidences are probabilities, as they were on dev."),
    ]
    passages: Annotated[
        NotRequired[list[PassageRecord]], Field(description="Those of the document.")
    ]
    left_out: Annotated[
        NotRequired[list[tuple[int, int, str]]],
        Field(description="What could not be asked about: start, end and why."),
    ]
    meta: Annotated[
        NotRequired[dict[str, Any]],
        Field(description="The keys of the input's record that are the user's own."),
    ]


# ---- predictions


@dataclass(frozen=True)
class Reply:
    """A model's answer to one question about a segment of a document.

    Attributes
    ----------
    format: how it is written.
    labels: those that were asked for. `segment`: the part of the document that it was about.
    answer: as the model wrote it.
    settled: what the format writes for the entities that were read; None for free answers.
    entities: those that were read from the answer, with offsets into the document.
    problems: what was wrong with the answer, and what settling dropped. Offsets in them, and in the
        answer, are those of the segment as it was shown, with white space as single spaces.
    parses: whether the answer, as it was written, follows its format exactly.
    ended, forced, tokens: see `Answer`.
    allowed_mass: the share of the model's probability that the masks allowed: the mean and the
        least over the tokens of the answer. None if it was not recorded.
    confidences: one for each entity, see `Confidence`; empty if they were not recorded.
    """

    format: str
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
    allowed_mass: tuple[float, float] | None = None
    confidences: tuple[float, ...] = ()

    @property
    def shown(self) -> str:
        """The answer as it is quoted in the next turn of its conversation."""
        return self.settled or self.answer

    def to_record(self, whole: Span) -> AnswerRecord:
        """The answer as part of a record.

        Parameters
        ----------
        whole: the span of the whole text. A segment that is the same is not written.
        """
        record = AnswerRecord(
            labels=list(self.labels),
            answer=self.answer,
            parses=self.parses,
            problems=[(str(problem.kind), problem.detail) for problem in self.problems],
            tokens=self.tokens,
            ended=self.ended,
            forced=self.forced,
        )
        if self.segment != whole:
            record["segment"] = self.segment
        if self.settled is not None and self.settled != self.answer:
            record["settled"] = self.settled
        if self.allowed_mass is not None:
            mean, least = self.allowed_mass
            record["allowed_mass"] = round(mean, 6), round(least, 6)
        return record

    @classmethod
    def from_json(cls, value: Mapping[str, Any], whole: Span, format: str) -> Reply:
        """The reply of a record. It has no entities: those of a record are not listed by answer.

        Parameters
        ----------
        format: that of the record.
        """
        start, end = value.get("segment", whole)
        mass = value.get("allowed_mass")
        return cls(
            value.get("format", format),
            tuple(value.get("labels", ())),
            (start, end),
            value.get("answer", ""),
            value.get("settled"),
            (),
            tuple(Problem(ProblemKind(kind), detail) for kind, detail in value["problems"]),
            bool(value["parses"]),
            bool(value["ended"]),
            bool(value["forced"]),
            int(value["tokens"]),
            None if mass is None else (mass[0], mass[1]),
        )


@dataclass(frozen=True)
class Health:
    """How well the answers of a model were formed.

    Attributes
    ----------
    answers: how many there are. `parsed`: that follow their format to the letter. `cut_off`: that
        the token budget ended. `forced`: that the budget closed. `tokens`: of all answers.
    problems: how many there are of each `ProblemKind`.
    """

    answers: int = 0
    parsed: int = 0
    cut_off: int = 0
    forced: int = 0
    tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Health) -> Health:
        return Health(
            self.answers + other.answers,
            self.parsed + other.parsed,
            self.cut_off + other.cut_off,
            self.forced + other.forced,
            self.tokens + other.tokens,
            self.problems + other.problems,
        )

    def to_json(self) -> dict[str, Any]:
        problems = {str(kind): self.problems[kind] for kind in ProblemKind}
        return {**asdict(self), "problems": {**problems, **self.problems}}


@dataclass(frozen=True)
class Prediction:
    """The entities of a document, and the replies that they come from; or an error.

    Attributes
    ----------
    error: why the document could not be answered, if it could not.
    left_out: segments for which at least one question could not be answered, and why.
    passages: those of the document.
    confidences: by entity, as far as they were recorded. Where an entity is in several answers of
        one format, it is the highest; of several formats, see `Agreement`.
    calibrated: whether they are probabilities, see `Calibration`.
    by_format: by entity, how sure the model was in each of several formats.
    also: by entity, what other answers call the same words, with their confidences.
    meta: see `Document`.
    """

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    replies: tuple[Reply, ...] = ()
    error: str | None = None
    left_out: tuple[tuple[Span, str], ...] = ()
    passages: tuple[Passage, ...] = ()
    confidences: Mapping[Entity, float] = field(default_factory=dict)
    also: Mapping[Entity, Mapping[str, float]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool = False
    by_format: Mapping[Entity, Mapping[str, float]] = field(default_factory=dict)
    formats: tuple[Format, ...] = field(kw_only=True)
    level: Level = field(kw_only=True)

    @property
    def format(self) -> str:
        """The names of its formats, with commas between them."""
        return ",".join(format.name for format in self.formats)

    def at_least(self, confidence: float) -> Prediction:
        """The same without the entities that the model is less sure of, from 0 to 1.

        The replies keep what they say. An entity without a confidence stays.
        """
        kept = tuple(e for e in self.entities if self.confidences.get(e, 1.0) >= confidence)
        return replace(
            self,
            entities=kept,
            confidences={e: value for e, value in self.confidences.items() if value >= confidence},
        )

    @property
    def document(self) -> Document:
        """The text and what was found in it."""
        return Document(
            self.id,
            self.text,
            self.entities,
            self.passages,
            confidences=self.confidences,
            meta=self.meta,
            sections={e: title for e in self.entities if (title := self.section_at(e.start))},
        )

    def to_frame(self, library: str | None = None) -> Any:
        """The entities as a data frame, a row for each: see `to_frame`."""
        return to_frame([self], library)

    def to_record(self) -> PredictionRecord:
        """What is written of a document that was answered."""
        record = PredictionRecord(
            id=self.id,
            text=self.text,
            format=self.format,
            level=self.level,
            options=asdict(self.formats[0].options),
            entities=[self._entity_record(entity) for entity in self.entities],
            answers=[self._answer_record(reply) for reply in self.replies],
        )
        if self.calibrated:
            record["calibrated"] = True
        if self.passages:
            record["passages"] = [
                PassageRecord(type=passage.type, start=passage.start, end=passage.end)
                for passage in self.passages
            ]
        if self.left_out:
            record["left_out"] = [(start, end, why) for (start, end), why in self.left_out]
        if self.meta:
            record["meta"] = dict(self.meta)
        return record

    @property
    def health(self) -> Health:
        """Of its answers."""
        return Health(
            len(self.replies),
            sum(reply.parses for reply in self.replies),
            sum(not reply.ended for reply in self.replies),
            sum(reply.forced for reply in self.replies),
            sum(reply.tokens for reply in self.replies),
            Counter(str(problem.kind) for reply in self.replies for problem in reply.problems),
        )

    def section_at(self, offset: int) -> str:
        """The title of the heading that a place of the text stands under; empty if there is none.

        It is a matter of the text alone, not of how it was cut into segments.
        """
        before = bisect_right(self._sections, offset, key=itemgetter(0))
        return self._sections[before - 1][1] if before else ""

    @cached_property
    def _sections(self) -> list[tuple[int, str]]:
        return sections(self.text)

    def _entity_record(self, entity: Entity) -> EntityRecord:
        record = EntityRecord(
            label=entity.label,
            fragments=list(entity.fragments),
            surface=entity.surface(self.text),
        )
        if entity in self.confidences:
            record["confidence"] = round(self.confidences[entity], 4)
        if entity in self.also:
            record["also"] = {name: round(p, 4) for name, p in self.also[entity].items()}
        if entity in self.by_format:
            votes = self.by_format[entity]
            record["by_format"] = {name: round(p, 4) for name, p in votes.items()}
        if section := self.section_at(entity.start):
            record["section"] = section
        return record

    def _answer_record(self, reply: Reply) -> AnswerRecord:
        record = reply.to_record((0, len(self.text)))
        if len(self.formats) > 1:
            record["format"] = reply.format
        if "segment" in record and (section := self.section_at(reply.segment[0])):
            record["section"] = section
        return record

    def to_json(self) -> dict[str, Any]:
        """The record as a value for JSON; of a document that failed, what was wrong."""
        if self.error is None:
            return {**self.to_record()}
        record = {
            "id": self.id,
            "error": self.error,
            "format": self.format,
            "level": self.level,
            "options": asdict(self.formats[0].options),
        }
        return record | ({"meta": dict(self.meta)} if self.meta else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Prediction:
        """The prediction of a record.

        Raises
        ------
        InputError: the record is not as `to_json` makes it.
        UnknownNameError: there is no such format or level.
        """
        try:
            failed = "error" in value
            meta = value.get("meta", {})
            document = Document(value["id"], "", meta=meta) if failed else document_from_json(value)
            options = Options(**value.get("options", {}))
            formats = tuple(get_format(name, options) for name in names_of(value["format"]))
            level = Level.parse(value["level"])
            if failed:
                error = value["error"]
                return cls(document.id, "", error=error, meta=meta, formats=formats, level=level)
            whole = 0, len(document.text)

            def told(key: str) -> dict[Entity, dict[str, float]]:
                entities = [one for one in value.get("entities", ()) if key in one]
                return {entity_from_json(one): dict(one[key]) for one in entities}

            return cls(
                document.id,
                document.text,
                document.entities,
                tuple(Reply.from_json(one, whole, value["format"]) for one in value["answers"]),
                None,
                tuple(((start, end), why) for start, end, why in value.get("left_out", ())),
                document.passages,
                document.confidences,
                told("also"),
                document.meta,
                bool(value.get("calibrated", False)),
                told("by_format"),
                formats=formats,
                level=level,
            )
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise InputError(
                "the record has answers, but not as `cner predict` writes them: expected parses, "
                "problems, tokens, ended and forced in each, and format and level beside "
                f"them ({reason_of(error, kind=True)})"
            ) from None


def warn_of_failures(predictions: Iterable[Prediction], what: str, unit: str = "document") -> None:
    """Say how many have no answer, where each counts as one in which nothing was found.

    Parameters
    ----------
    what: was asked. `unit`: what each prediction is about.
    """
    errors = [prediction.error for prediction in predictions if prediction.error is not None]
    if errors:
        count = counted(len(errors), unit)
        said = "%s: %s could not be answered, and %s as if nothing was found; the first: %s"
        _log.warning(said, what, count, "counts" if len(errors) == 1 else "count", errors[0])


def counted(number: int, one: str, many: str = "") -> str:
    """`1 document`, `2 documents`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def to_frame(predictions: Prediction | Iterable[Prediction], library: str | None = None) -> Any:
    """The entities of predictions as a data frame, a row for each.

    Its columns are those of the tables that `cner predict` writes, see `EntityRow`. A document
    without entities, or with an error, has no row.

    Parameters
    ----------
    library: `pandas` or `polars`; by default the first of them that is installed.

    Raises
    ------
    UnknownNameError: it is neither.
    MissingPackageError: it is not installed, or none is.
    """
    if isinstance(predictions, Prediction):
        predictions = [predictions]
    return frame((prediction.document for prediction in predictions), library)


@dataclass
class Summary:
    """What is counted during a run, and reported at its end.

    Attributes
    ----------
    before: how many documents had their records before.
    failed: an error for each document that could not be answered. `partly`: for each part of one.
    """

    documents: int = 0
    before: int = 0
    failed: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    entities: int = 0
    health: Health = Health()
    started: float = field(default_factory=perf_counter)

    def pass_over(self, record: Mapping[str, Any]) -> None:
        """Count a document that has its record already. Only its errors are reported."""
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
        self.health += prediction.health

    def lines(self, *, decoded: bool = True) -> list[str]:
        """The report.

        Parameters
        ----------
        decoded: whether the time is that of decoding.
        """
        seconds = perf_counter() - self.started
        health = self.health
        speed = f" in {seconds:.1f} s ({health.tokens / seconds:.1f} tokens/s)" if decoded else ""
        problems = ", ".join(f"{n} {kind}" for kind, n in sorted(health.problems.items()))
        before = f" (and {self.before} done before)" if self.before else ""
        return [
            f"{counted(self.documents, 'document')}{before}, "
            f"{counted(self.entities, 'entity', 'entities')}, "
            f"{counted(health.answers, 'answer')}; {health.tokens} tokens{speed}",
            f"answers that do not parse strictly: {health.answers - health.parsed}; cut off: "
            f"{health.cut_off}; closed by the budget: {health.forced}",
            f"problems: {problems or 'none'}",
            f"documents left out: {len(self.failed)}; parts of documents: {len(self.partly)}",
        ]
