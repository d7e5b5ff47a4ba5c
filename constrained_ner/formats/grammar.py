"""Grammars: a structure that a person can read, and the holes that an input fills.

A structure is a file `grammars/<format>.lark` in the dialect that the `lark` package and
llguidance share. Some of its definitions are *holes*. At the syntax level a hole keeps its
definition from the file, or gets one made from the labels. At the faithful level it gets a
*filling* made from the text, which may use syntax that only llguidance knows.

The result is a source string. llguidance makes masks from it (`engines.matcher`), and lark reads
answers with the syntax-level source (`parsing`). So each of the two libraries checks the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Any

from constrained_ner.errors import GrammarError, UnknownNameError

_DEFINITION = re.compile(r"[?!]?(?P<name>[A-Za-z_]\w*)(?P<parameter>::_)?\s*:(?!:)\s?(?P<body>.*)")


Completions = Callable[[str], Iterable[str]]


class Level(StrEnum):
    """How much of an answer is constrained."""

    FREE = "free"
    SYNTAX = "syntax"
    FAITHFUL = "faithful"

    @classmethod
    def parse(cls, name: str | Level) -> Level:
        try:
            return cls(name)
        except ValueError:
            raise UnknownNameError(
                f"unknown level {name!r}: expected one of {', '.join(cls)}"
            ) from None


@dataclass(frozen=True)
class RepetitionGuard:
    """What ends an answer that says the same again and again.

    Attributes
    ----------
    item_end: the byte with which an item ends: the answer is looked at only behind it.
    tightened: a function of the unfinished answer. Where that repeats itself, it returns a grammar
        that accepts what is written and lets no further item follow; otherwise None.
    """

    item_end: bytes
    tightened: Callable[[str], Grammar | None]


@dataclass(frozen=True)
class Grammar:
    """The grammar of one answer: to one format, for one text, one label set and one level.

    Attributes
    ----------
    format: name of the format.
    level: SYNTAX or FAITHFUL.
    source: the grammar in llguidance's dialect of Lark; it begins with the rule `start`.
    empty: the answer that finds nothing.
    completions: a function of the unfinished answer: strings that may finish it, the best first.
        Some may not fit: decoding tries them on the grammar when the token budget runs out.
    largest_growth: the most bytes that one token can add to the way to an end: if it begins an item
        that then has to be finished, say.
    markers: what an answer opens, each with what closes it. Each one that is opened adds to the way
        to an end.
    repetition_guard: what ends an answer that says the same again and again.
    markup: bytes with which markup or an escape may begin. On the way to an end, tokens that begin
        with one of them are tried last.
    whole_items: a pattern of the places in an answer before which no item is unfinished, if the end
        of an empty answer may follow there.
    """

    format: str
    level: Level
    source: str
    empty: str
    completions: Completions = field(compare=False)
    largest_growth: int
    markers: Sequence[tuple[str, str]] = ()
    repetition_guard: RepetitionGuard | None = field(default=None, compare=False)
    markup: bytes = b""
    whole_items: str = r"\Z"


class Structure:
    """A grammar file: its definitions, in order, by name."""

    def __init__(self, name: str, text: str):
        self.name = name
        self.definitions: dict[str, str] = {}
        current = ""
        for line in text.splitlines():
            if not line.strip() or line.lstrip().startswith("//"):
                continue
            if match := _DEFINITION.match(line):
                current = match["name"]
                self.definitions[current] = line
            elif current and line[0].isspace():
                self.definitions[current] += "\n" + line
            else:
                raise GrammarError(f"{name}: not a definition: {line!r}")
        if next(iter(self.definitions), None) != "start":
            raise GrammarError(f"{name}: the first definition is not 'start'")

    def body(self, name: str) -> str:
        """What stands after `name:`."""
        match = _DEFINITION.match(self.definitions[name])
        assert match is not None
        return match["body"] + self.definitions[name][match.end() :]

    def fill(self, fillings: Mapping[str, str]) -> str:
        """The source with the definitions of `fillings` in place of the file's own.

        A filling is one or more lines of definitions, of which the first defines the hole.
        """
        for hole in fillings:
            if hole not in self.definitions:
                raise GrammarError(f"{self.name}: no definition {hole!r} to fill")
        return "\n".join({**self.definitions, **fillings}.values()) + "\n"


@lru_cache
def load_structure(name: str) -> Structure:
    """The structure `grammars/<name>.lark` as installed with the package."""
    path = files("constrained_ner.grammars") / f"{name}.lark"
    return Structure(f"grammars/{name}.lark", path.read_text(encoding="utf-8"))


@lru_cache
def load_schema(name: str) -> dict[str, Any] | None:
    """The JSON schema `grammars/<name>.schema.json` as it stands in the file; None without one."""
    path = files("constrained_ner.grammars") / f"{name}.schema.json"
    if not path.is_file():
        return None
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema
