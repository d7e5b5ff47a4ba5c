"""Grammars: a structure that a person can read, and the holes that an input fills.

A structure is a file `grammars/<format>.lark` in the dialect that the `lark` package and
llguidance share. Some of its definitions are *holes*: at the syntax level they keep what stands
in the file, or what the labels make of it; at the faithful level a filling made from the very
text takes their place, and may use llguidance's own syntax.

The result is a source string. llguidance makes masks from it; lark reads answers with the
syntax-level source, so that what one engine lets through is checked by another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Any, ClassVar

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken
from lark.lexer import TerminalDef

from constrained_ner.errors import AnswerError, GrammarError, UnknownNameError

_DEFINITION = re.compile(r"[?!]?(?P<name>[A-Za-z_]\w*)(?P<parameter>::_)?\s*:(?!:)\s?(?P<body>.*)")


Closers = Callable[[str], Iterable[str]]
Curb = Callable[[str], "Grammar | None"]


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
class Grammar:
    """The grammar of one answer: to one format, for one text, one label set and one level.

    Attributes
    ----------
    format: name of the format.
    level: SYNTAX or FAITHFUL.
    source: the grammar in llguidance's dialect of Lark; it begins with the rule `start`.
    empty: the answer that finds nothing.
    closers: from an unfinished answer to strings that may finish it, the best first. They need
        not fit: decoding tries them on the grammar when the token budget runs out.
    detour: how many bytes longer than before, at most, the way to an end can become by one token:
        to finish an item just begun, say.
    markers: what an answer opens, each with what closes it: the way grows with each that is opened.
    curb: from an unfinished answer to a grammar for it that lets less through, None where there is
        none: to what is written it may only add less.
    maker: makes the same grammar. What is pickled is this, where there is one, since closers and
        curb are functions.
    """

    format: str
    level: Level
    source: str
    empty: str
    closers: Closers = field(compare=False)
    detour: int
    markers: Sequence[tuple[str, str]] = ()
    curb: Curb | None = field(default=None, compare=False)
    maker: Callable[[], Grammar | None] | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> Any:
        if self.maker is None:
            return super().__reduce__()
        return self.maker, ()


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


@lru_cache(maxsize=256)
def _parser(source: str) -> Lark:
    # All tokens are kept: the tag formats put the text together again from them.
    return Lark(
        source,
        parser="lalr",
        lexer="contextual",
        keep_all_tokens=True,
        edit_terminals=_literals_first,
    )


def _literals_first(terminal: TerminalDef) -> TerminalDef | None:
    """Where a literal and a regular expression both fit, lark takes the literal.

    llguidance takes the longer one; the structures are such that this is the literal.
    """
    if terminal.pattern.type == "str":
        terminal.priority = 1
    return None  # edited in place


def parse(format: str, source: str, answer: str) -> Tree[Token]:
    """The syntax tree of an answer under a syntax-level source.

    Raises
    ------
    AnswerError: the answer does not follow the grammar; it says where, and what was expected.
    """
    parser = _parser(source)
    try:
        return parser.parse(answer)
    except UnexpectedInput as error:
        position = error.pos_in_stream
        if position is None or position < 0 or isinstance(error, UnexpectedEOF):
            position = len(answer)
        if isinstance(error, UnexpectedCharacters):
            names = error.allowed or set()
        elif isinstance(error, UnexpectedToken):
            names = error.accepts or error.expected
            if error.token.type == "$END":
                position = len(answer)
        else:
            names = set()
        raise AnswerError(format, answer, position, _expected(parser, names)) from None


def _expected(parser: Lark, names: set[str], most: int = 6) -> str:
    """Terminal names as a reader knows them: literals quoted, the others by their name."""
    shown: set[str] = set()
    for name in names:
        if name in ("$END", "<END-OF-FILE>"):
            shown.add("the end")
            continue
        pattern = parser.get_terminal(name).pattern
        shown.add(repr(pattern.value) if pattern.type == "str" else name)
    listed = sorted(shown)
    more = f" or {len(listed) - most} others" if len(listed) > most else ""
    return " or ".join(listed[:most]) + more if listed else "nothing more"


# ---- accepting a string ----------------------------------------------------------------------


@dataclass(frozen=True)
class Rejection:
    """Where a string leaves a grammar.

    Attributes
    ----------
    position: offset, in code points, of the first character that no answer has there; the length
        of the string where it only ends too early.
    """

    position: int


class _Bytes:
    """A vocabulary of the 256 bytes and an end, as llguidance wants a tokenizer to look."""

    eos_token_id = 256
    bos_token_id = None
    tokens: ClassVar[list[bytes]] = [bytes([i]) for i in range(256)] + [b"<end>"]
    special_token_ids: ClassVar[list[int]] = [256]

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@lru_cache
def byte_tokenizer() -> Any:
    """An `LLTokenizer` whose tokens are bytes: grammars without any model's tokenizer."""
    from llguidance import LLTokenizer
    from llguidance._tokenizer import TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Bytes()))


@lru_cache
def engine_limits() -> Any:
    """`LLParserLimits` for long texts and long words.

    By default the engine stops at 2,000 items in a row, which is a text of 900 words for the tag
    formats and of 600 for the span formats, and inside a word of some hundred letters.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_items_in_row=100_000,
        initial_lexer_fuel=10**9,
        step_lexer_fuel=10**9,
        step_max_items=10**7,
        max_lexer_states=10**7,
        max_grammar_size=10**8,
    )


def byte_matcher(source: str) -> Any:
    """A matcher over bytes.

    Raises
    ------
    GrammarError: llguidance refuses the grammar.
    """
    from llguidance import LLMatcher

    matcher = LLMatcher(byte_tokenizer(), source, log_level=0, limits=engine_limits())
    if matcher.is_error():
        raise GrammarError(f"the engine refuses the grammar: {matcher.get_error()}")
    return matcher


def reject(grammar: Grammar, answer: str) -> Rejection | None:
    """None where llguidance accepts the answer; else where it goes wrong."""
    matcher = byte_matcher(grammar.source)
    data = answer.encode()
    good = matcher.try_consume_tokens(list(data))
    if good < len(data):
        return Rejection(len(data[:good].decode(errors="ignore")))
    return None if matcher.is_accepting() else Rejection(len(answer))
