"""What was found in a document, and how it came about: the record that `cner predict` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from constrained_ner.corpora.jsonl import document_from_json, entity_from_json, entity_to_json
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError
from constrained_ner.formats import Format, Options, Problem, ProblemKind, get_format
from constrained_ner.formats.grammar import Level
from constrained_ner.words import Span


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
    allowed_mass: of the model's probability the share that the masks let through, over the tokens
        of the answer: the mean and the least; None where it was not recorded.
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
    allowed_mass: tuple[float, float] | None = None
    confidences: tuple[float, ...] = ()

    @property
    def shown(self) -> str:
        """The answer as the next turn of its conversation shows it."""
        return self.settled or self.answer

    def to_json(self, whole: Span) -> dict[str, Any]:
        """Part of a record; the segment is left out where it is the whole text."""
        differs = self.settled is not None and self.settled != self.answer
        mass = self.allowed_mass
        return {
            "labels": list(self.labels),
            **({} if self.segment == whole else {"segment": list(self.segment)}),
            "answer": self.answer,
            **({"settled": self.settled} if differs else {}),
            "parses": self.parses,
            "problems": [[problem.kind, problem.detail] for problem in self.problems],
            "tokens": self.tokens,
            "ended": self.ended,
            "forced": self.forced,
            **({} if mass is None else {"allowed_mass": [round(x, 6) for x in mass]}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], whole: Span) -> Reply:
        """The other way; which of the record's entities are its own is not told."""
        start, end = value.get("segment", whole)
        mass = value.get("allowed_mass")
        return cls(
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
class Prediction:
    """A document's entities, and how they came about; or why there are none.

    Attributes
    ----------
    left_out: segments that could not be asked about in full, and why.
    passages: of the document, see `Document`.
    confidences: of the entities whose answers were recorded, the best where several answers have
        one.
    """

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    replies: tuple[Reply, ...] = ()
    error: str | None = None
    left_out: tuple[tuple[Span, str], ...] = ()
    passages: tuple[Passage, ...] = ()
    confidences: Mapping[Entity, float] = field(default_factory=dict)
    format: Format = field(kw_only=True)
    level: Level = field(kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """The record: entities with offsets and surfaces, the answers, their format."""
        made_by = {
            "format": self.format.name,
            "level": self.level,
            "options": asdict(self.format.options),
        }
        if self.error is not None:
            return {"id": self.id, "error": self.error, **made_by}
        whole = 0, len(self.text)
        return {
            "id": self.id,
            "text": self.text,
            **({"passages": [asdict(p) for p in self.passages]} if self.passages else {}),
            **made_by,
            "entities": [
                {
                    **entity_to_json(entity),
                    "surface": entity.surface(self.text),
                    **(
                        {"confidence": round(self.confidences[entity], 4)}
                        if entity in self.confidences
                        else {}
                    ),
                }
                for entity in self.entities
            ],
            "answers": [reply.to_json(whole) for reply in self.replies],
            **(
                {"left_out": [[start, end, why] for (start, end), why in self.left_out]}
                if self.left_out
                else {}
            ),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Prediction:
        """A record that was read.

        Raises
        ------
        InputError: it is not as `to_json` makes it.
        UnknownNameError: there is no such format or level.
        """
        try:
            failed = "error" in value
            document = Document(value["id"], "") if failed else document_from_json(value)
            format = get_format(value["format"], Options(**value.get("options", {})))
            level = Level.parse(value["level"])
            if failed:
                return cls(document.id, "", error=value["error"], format=format, level=level)
            whole = 0, len(document.text)
            confidences = {
                entity_from_json(entity): float(entity["confidence"])
                for entity in value.get("entities", ())
                if "confidence" in entity
            }
            return cls(
                document.id,
                document.text,
                document.entities,
                tuple(Reply.from_json(answer, whole) for answer in value["answers"]),
                None,
                tuple(((start, end), why) for start, end, why in value.get("left_out", ())),
                document.passages,
                confidences,
                format=format,
                level=level,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "the record has answers, but not as `cner predict` writes them: expected parses, "
                "problems, tokens, ended and forced in each, and format and level beside "
                f"them ({type(error).__name__}: {error})"
            ) from None


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
