"""What a format is: the protocol that the twelve modules beside this one follow."""

from __future__ import annotations

import json
import string
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from lark import Token, Tree

from constrained_ner.documents import Document, Entity, paper_order, text_order
from constrained_ner.errors import GrammarError, InexpressibleError, LabelError
from constrained_ner.formats.answers import Decoded, Problem, ProblemKind, Reader, Settled
from constrained_ner.formats.fillings import MAX_FRAGMENTED_UNITS
from constrained_ner.formats.grammar import (
    Completions,
    Grammar,
    Level,
    RepetitionGuard,
    load_schema,
    load_structure,
)
from constrained_ner.formats.options import Options
from constrained_ner.formats.parsing import parse
from constrained_ner.labels import check_labels, slug
from constrained_ner.words import Span, on_boundaries, tokens, units

FIXED = 100  # bytes, more than any item has besides its label and what it holds of the text


class Feature(StrEnum):
    """What a format can write. Every format can write entities nested in one another."""

    NESTED = "nested"
    SAME_SPAN = "same span, two labels"
    CROSSING = "crossing"
    DISCONTINUOUS = "discontinuous"
    OFFSETS = "carries offsets"
    ALL_LABELS = "all labels at once"


Dropped = list[tuple[Entity, str]]


class TextObstacle(NamedTuple):
    """Why a text has no grammar at the faithful level.

    Attributes
    ----------
    cause: the same words for every such text, so that it can be counted.
    detail: how this text misses the bound, and what can be done.
    """

    cause: str
    detail: str


class Format(ABC):
    """One way to write entities.

    Subclasses set `name` and `expresses`, and write, read and salvage answers; what follows from
    these is here.

    Attributes
    ----------
    by_place: an answer says where entities are, not how they read. A small model can only guess
        then, unless the prompt indexes the words.
    anchored: an answer has offsets and surfaces, and `Options.anchor` says which of them decide.
    term_counterpart: of a format with offsets, the one with surfaces that asks in the same way.
    conversational: it asks for one label a turn, and shows the answers to the turns before.
    markup, whole_items: see `Grammar`. The latter is here that of lists in JSON.
    """

    name: ClassVar[str]
    expresses: ClassVar[frozenset[Feature]]
    by_place: ClassVar[bool] = False
    anchored: ClassVar[bool] = False
    term_counterpart: ClassVar[str | None] = None
    conversational: ClassVar[bool] = False
    markup: ClassVar[bytes] = b"<@#\\"
    whole_items: ClassVar[str] = r"(?<=[\[\]}\"])"

    def __init__(self, options: Options | None = None):
        self.options = options or Options()

    # ---- labels and prompts

    @property
    def one_label(self) -> bool:
        """Whether the format asks for one label at a time."""
        return Feature.ALL_LABELS not in self.expresses

    def conversations(self, labels: Sequence[str]) -> list[tuple[str, ...]]:
        """The label sets that are asked for separately, each in a conversation of its own."""
        labels = check_labels(labels)
        split = self.one_label and not self.conversational
        return [(label,) for label in labels] if split else [labels]

    def turns(self, labels: Sequence[str]) -> list[tuple[str, ...]]:
        """The labels that each turn asks for, of a conversation about all these labels."""
        return [(label,) for label in labels] if self.conversational else [tuple(labels)]

    def questions(self, labels: Sequence[str]) -> list[tuple[str, ...]]:
        """The label sets to ask for, one after the other: the turns of all conversations."""
        return [turn for about in self.conversations(labels) for turn in self.turns(about)]

    def check(self, labels: Sequence[str]) -> tuple[str, ...]:
        labels = check_labels(labels)
        if self.one_label and len(labels) != 1:
            raise LabelError(f"{self.name} asks for one label at a time, got {len(labels)}")
        return labels

    @abstractmethod
    def instruction(self, labels: Sequence[str]) -> str:
        """One or two sentences for the prompt: how to answer, and the labels asked for."""

    def indexed(self, text: str) -> str:
        """The text as an indexed prompt shows it: every word with the offset at which it starts."""
        return " ".join(f"{start}:{text[start:end]}" for start, end in tokens(text))

    # ---- writing

    def text_obstacle(self, text: str) -> TextObstacle | None:
        """Why the text has no grammar at the faithful level; None where it has one."""
        if not text.strip():
            return TextObstacle("the text is empty or white space", "there is nothing to point at")
        return None

    def obstacle(self, entity: Entity, document: Document, level: Level) -> str | None:
        """Why the entity cannot be written, taken by itself; None where it can."""
        text = document.text
        for start, end in entity.fragments:
            if text[start].isspace() or text[end - 1].isspace():
                return "begins or ends with white space"
        if entity.discontinuous and Feature.DISCONTINUOUS not in self.expresses:
            return "discontinuous"
        if level == Level.FAITHFUL:
            if len(entity.fragments) > self.options.max_fragments:
                return f"more than {self.options.max_fragments} fragments"
            for start, end in entity.fragments:
                if not on_boundaries(start, end, text, self.options.boundaries):
                    return "begins or ends inside a word"
        return None

    def expressible(
        self, document: Document, labels: Sequence[str], level: Level = Level.FREE
    ) -> tuple[tuple[Entity, ...], Dropped]:
        """The entities with one of the labels that can be written, and the others with the cause.

        Not every cause lies in the format: the faithful level has bounds of its own, and where a
        text has no grammar none of its entities can be written.
        """
        kept: list[Entity] = []
        dropped: Dropped = []
        of_text = self.text_obstacle(document.text) if level == Level.FAITHFUL else None
        for entity in document.entities:
            if entity.label in labels:
                cause = (of_text and of_text.cause) or self.obstacle(entity, document, level)
                if cause is None and level == Level.FAITHFUL:
                    cause = self.excess(entity, kept, document, labels)
                if cause:
                    dropped.append((entity, cause))
                else:
                    kept.append(entity)
        return tuple(kept), dropped

    def excess(
        self, entity: Entity, kept: Sequence[Entity], document: Document, labels: Sequence[str]
    ) -> str | None:
        """Why the faithful level, whose answers are bounded, has no room for the entity, too."""
        return None

    def encode(self, document: Document, labels: Sequence[str], level: Level = Level.FREE) -> str:
        """The answer that holds the document's entities of these labels.

        Raises
        ------
        InexpressibleError: the format cannot write one of them; drop those first, see
            `expressible`.
        """
        labels = self.check(labels)
        kept, dropped = self.expressible(document, labels, level)
        if dropped:
            entity, cause = dropped[0]
            raise InexpressibleError(
                f"document {document.id!r}: {self.name} cannot write "
                f"{entity.describe(document.text)}: {cause}"
                + (f" (and {len(dropped) - 1} more)" if len(dropped) > 1 else "")
            )
        return self.write(document.text, self._ordered(kept, document.text, level), labels)

    def _ordered(self, entities: tuple[Entity, ...], text: str, level: Level) -> tuple[Entity, ...]:
        # The faithful level has offsets in text order.
        if self.options.order == "paper" and not (self.by_place and level == Level.FAITHFUL):
            return paper_order(entities, text)
        return entities

    @abstractmethod
    def write(self, text: str, entities: Sequence[Entity], labels: Sequence[str]) -> str:
        """The answer for entities that can be written, in the order given."""

    # ---- reading

    def decode(
        self,
        answer: str,
        text: str,
        labels: Sequence[str],
        *,
        strict: bool = True,
        level: Level = Level.FREE,
    ) -> Decoded:
        """The entities of an answer.

        Parameters
        ----------
        strict: follow the format's grammar to the letter, or else salvage what can be.
        level: that of the mask under which it was written; an answer that FAITHFUL lets through is
            read as that mask means it.

        Raises
        ------
        AnswerError: strict, and the answer does not follow the grammar.
        """
        labels = self.check(labels)
        reader = Reader(text, level)
        if strict:
            self.read(self.tree(answer, labels), reader, labels)
        else:
            self.salvage(answer, reader, labels)
        return Decoded(text_order(reader.places), tuple(reader.problems), reader.places)

    def tree(self, answer: str, labels: tuple[str, ...]) -> Tree[Token]:
        """The syntax tree of an answer.

        Raises
        ------
        AnswerError: the answer does not follow the grammar; it says where, and what was expected.
        """
        return parse(self.name, self.syntax(labels), answer)

    @abstractmethod
    def read(self, tree: Tree[Token], reader: Reader, labels: Sequence[str]) -> None:
        """Hand the entities of a syntax tree to the reader."""

    @abstractmethod
    def salvage(self, answer: str, reader: Reader, labels: Sequence[str]) -> None:
        """Hand what can be made out in any string to the reader, and the problems with it."""

    def settle(
        self, answer: str, text: str, labels: Sequence[str], level: Level = Level.FREE
    ) -> Settled:
        """Read an answer strictly and write it anew: in order, each entity once.

        Parameters
        ----------
        level: that of its mask.
        """
        decoded = self.decode(answer, text, labels, level=level)
        document = Document("", text, decoded.entities)
        kept, dropped = self.expressible(document, labels)
        problems = decoded.problems + tuple(
            Problem(ProblemKind.DROPPED, f"{entity.describe(text)}: {cause}")
            for entity, cause in dropped
        )
        written = self.write(text, self._ordered(kept, text, level), labels)
        return Settled(kept, problems, decoded.places, written)

    # ---- grammars

    def grammar(self, text: str, labels: Sequence[str], level: Level) -> Grammar:
        """The grammar of an answer: a pure function of its arguments.

        Raises
        ------
        GrammarError: the text has nothing to point at, or is too long for this format: see
            `text_obstacle`.
        """
        labels, level = self.check(labels), Level.parse(level)
        if level == Level.FREE:
            raise GrammarError("the free level has no grammar")
        if level == Level.SYNTAX:
            source = self.syntax(labels)
        else:
            if (obstacle := self.text_obstacle(text)) is not None:
                raise GrammarError(f"{self.name}: {obstacle.cause}: {obstacle.detail}")
            fillings = {**self.label_fillings(labels), **self.faithful(text, labels)}
            source = load_structure(self.name).fill(fillings)
        grammar = Grammar(
            self.name,
            level,
            source,
            empty=self.write(text, (), labels),
            completions=self.completions(text, labels),
            largest_growth=self.largest_growth(text, labels),
            markers=self.markers(labels),
            markup=self.markup,
            whole_items=self.whole_items,
        )
        if level == Level.SYNTAX:
            return grammar
        return replace(grammar, repetition_guard=self.repetition_guard(grammar, text, labels))

    def syntax(self, labels: tuple[str, ...]) -> str:
        """The source at the syntax level; it does not depend on the text."""
        return _syntax(type(self), self.options, labels)

    def schema(self, labels: Sequence[str]) -> dict[str, Any] | None:
        """The JSON schema of the list that follows `Answer: `; None for formats without one.

        A schema says nothing of the order of keys, the spacing and the escapes: the structure
        does.
        """
        labels = self.check(labels)
        schema = deepcopy(load_schema(self.name))
        if schema is not None and Feature.ALL_LABELS in self.expresses:
            schema["items"]["properties"]["type"]["enum"] = list(labels)
        return schema

    def label_fillings(self, labels: Sequence[str]) -> dict[str, str]:
        """The holes that the labels fill, at both levels."""
        return {}

    @abstractmethod
    def faithful(self, text: str, labels: Sequence[str]) -> dict[str, str]:
        """The holes that the text fills, at the faithful level."""

    @abstractmethod
    def completions(self, text: str, labels: Sequence[str]) -> Completions:
        """From an unfinished answer to strings that may finish it, the best first.

        They need not fit: each is tried on the grammar.
        """

    def largest_growth(self, text: str, labels: Sequence[str]) -> int:
        """Bytes of the longest item that a token can begin; see `Grammar.largest_growth`.

        It is the sum of the fixed part of an item, its longest label, and, for each fragment, the
        longest way through the text to where a surface may end: a run of white space, in which
        none ends, and the unit behind it. Sizes are those that JSON and slugs write.
        """
        label = max(max(len(slug(label)), json_size(label)) for label in labels)
        piece, start = 0, 0
        for begin, end in self.units(text):
            if not text[begin:end].isspace():
                piece = max(piece, json_size(text[start:end]))
                start = end
        return FIXED + label + piece * self.options.max_fragments

    def markers(self, labels: Sequence[str]) -> Sequence[tuple[str, str]]:
        """What an answer opens, each with what closes it."""
        return ()

    def repetition_guard(
        self, grammar: Grammar, text: str, labels: Sequence[str]
    ) -> RepetitionGuard | None:
        """What keeps a model from saying the same again and again."""
        return None

    def units(self, text: str) -> Sequence[Span]:
        return units(text, self.options.boundaries)

    def spelt(self, text: str, labels: Sequence[str]) -> str:
        """The text, and behind it whatever else an answer at the faithful level may write.

        The digits of offsets, too: where a tokenizer cannot write one of them, an answer could come
        to a dead end.
        """
        digits = string.digits if Feature.OFFSETS in self.expresses else ""
        return text + self.write(text, (), labels) + digits

    # ---- guesses

    def propose_draft(self, written: str, text: str) -> str:
        """How an answer is likely to go on, "" where there is nothing to tell.

        Speculative decoding drafts it; what a model writes does not depend on it.

        Parameters
        ----------
        written: the end of the answer so far.
        """
        return ""


def too_long(
    text: str, for_what: str, units: int, most: int, otherwise: str = ""
) -> TextObstacle | None:
    """The obstacle of a text with more units than fit; None where they fit.

    Parameters
    ----------
    for_what: what needs a shorter text.
    otherwise: what else can be done than to ask about less of the text.
    """
    if units <= most:
        return None
    return TextObstacle(
        f"the text is too long for {for_what}",
        f"its {len(tokens(text))} words are {units} units, and at most {most} fit; "
        f"ask about sentences or windows of it (--segment){otherwise}",
    )


def too_long_for_fragments(text: str, units: int, fragments: int) -> TextObstacle | None:
    """The same of surfaces of several fragments; contiguous ones have no bound."""
    if fragments == 1:
        return None
    most = MAX_FRAGMENTED_UNITS // fragments
    what = f"surfaces of {fragments} fragments"
    return too_long(text, what, units, most, ", or allow fewer fragments")


def json_size(text: str) -> int:
    """Bytes that a text takes inside a JSON string: no format writes it longer."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=256)
def _syntax(format: type[Format], options: Options, labels: tuple[str, ...]) -> str:
    instance = format(options)
    return load_structure(instance.name).fill(instance.label_fillings(labels))
