"""Reading answers with lark, under the syntax-level source of their grammar."""

from __future__ import annotations

from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken
from lark.lexer import TerminalDef

from constrained_ner.errors import AnswerError


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


def _expected(parser: Lark, names: set[str]) -> str:
    """Terminal names as a reader knows them: literals quoted, the others by their name."""
    shown: set[str] = set()
    for name in names:
        if name in ("$END", "<END-OF-FILE>"):
            shown.add("the end")
            continue
        pattern = parser.get_terminal(name).pattern
        shown.add(repr(pattern.value) if pattern.type == "str" else name)
    listed = sorted(shown)
    more = f" or {len(listed) - 6} others" if len(listed) > 6 else ""
    return " or ".join(listed[:6]) + more if listed else "nothing more"
