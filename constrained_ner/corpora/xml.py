"""XML, read as a stream of subtrees with line numbers.

The parser is Python's own expat, which opens no other file: an external DTD is never fetched. A
file that declares entities of its own is an error, and so is one that uses an entity which is
declared nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from constrained_ner.corpora.files import File
from constrained_ner.errors import InputError

CHUNK = 2**16  # bytes
DEPTH_LIMIT = 200  # elements inside one another
SUBTREE_LIMIT = 64 * 2**20  # characters of one subtree
TOKEN_LIMIT = 16 * 2**20  # bytes of a tag or a comment: the text of an XMI file is an attribute


@dataclass(slots=True)
class Node:
    """An element: its children and, between them, its text."""

    tag: str
    attributes: dict[str, str]
    line: int
    content: list[Node | str] = field(default_factory=list)

    def children(self, tag: str) -> Iterator[Node]:
        return (part for part in self.content if isinstance(part, Node) and part.tag == tag)

    def child(self, tag: str) -> Node | None:
        return next(self.children(tag), None)

    @property
    def text(self) -> str:
        """All of it, that of the children included."""
        return "".join(part if isinstance(part, str) else part.text for part in self.content)

    def text_of(self, tag: str) -> str:
        """The text of the first such child; empty where there is none."""
        found = self.child(tag)
        return found.text if found else ""


class _RefusedError(Exception):
    """Well-formed XML that is not read, and why."""


class _Builder:
    """Collects the subtrees of one tag, from expat's events."""

    def __init__(self, tag: str, encoding: str | None):
        self.tag = tag
        self.done: list[Node] = []
        self.open: list[Node] = []
        self.depth = self.size = 0
        self.parser = expat.ParserCreate(encoding)
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.EntityDeclHandler = self.declared
        self.parser.SkippedEntityHandler = self.skipped

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise _RefusedError(f"elements more than {DEPTH_LIMIT} deep")
        if self.open or tag == self.tag:
            node = Node(tag, attributes, self.parser.CurrentLineNumber)
            if self.open:
                self.open[-1].content.append(node)
            else:
                self.size = 0
            self.open.append(node)
            self.grow(100 + sum(len(name) + len(value) for name, value in attributes.items()))

    def end(self, tag: str) -> None:
        self.depth -= 1
        if self.open:
            node = self.open.pop()
            if not self.open:
                self.done.append(node)

    def characters(self, data: str) -> None:
        if self.open:
            self.grow(len(data))
            self.open[-1].content.append(data)

    def grow(self, size: int) -> None:
        self.size += size
        if self.size > SUBTREE_LIMIT:
            raise _RefusedError(f"an element <{self.tag}> of over {SUBTREE_LIMIT} characters")

    def declared(self, name: str, *_: object) -> None:
        raise _RefusedError(f"it declares the entity {name!r:.80}, which is refused")

    def skipped(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            raise _RefusedError(f"the entity &{name:.80}; is declared nowhere")


def subtrees(file: File, tag: str) -> Iterator[Node | InputError]:
    """The outermost elements `tag` of a file, one at a time.

    Where the file breaks off or is not well-formed, the last item is an `InputError` with the
    line; what comes after it is not read.

    Raises
    ------
    InputError: the file cannot be read.
    """
    # Where an encoding was named the file comes in UTF-8, whatever it declares.
    builder = _Builder(tag, None if file.encoding is None else "UTF-8")
    read = 0
    with file.open() as stream:
        while True:
            chunk = stream.read(CHUNK)
            read += len(chunk)
            error = None
            try:
                builder.parser.Parse(chunk, not chunk)
            except expat.ExpatError as failure:
                reason = f"not well-formed XML: {expat.errors.messages[failure.code]}"
                error = InputError(
                    f"{reason}; nothing after it is read", file.place, failure.lineno
                )
            except _RefusedError as failure:
                line = builder.parser.CurrentLineNumber
                error = InputError(f"{failure}; nothing after it is read", file.place, line)
            except (ValueError, LookupError) as failure:  # an encoding that Python does not know
                error = InputError(f"not readable XML: {failure}", file.place)
            # expat looks at an unfinished tag or comment from its beginning again and again.
            if not error and read - builder.parser.CurrentByteIndex > TOKEN_LIMIT:
                said = f"a tag, attribute or comment of over {TOKEN_LIMIT} bytes"
                error = InputError(f"{said}; nothing after it is read", file.place)
            yield from builder.done
            builder.done.clear()
            if error:
                yield error
            if error or not chunk:
                return


def refuse_entities(file: File) -> None:
    """See that a file is well-formed and declares no entities, before a library reads it.

    Raises
    ------
    InputError: it is not, it does, it is too deep, or it cannot be read; with the line.
    """
    for failure in subtrees(file, ""):
        if isinstance(failure, InputError):
            raise InputError(failure.reason.split("; nothing after")[0], file.place, failure.line)


# ---- writing ------------------------------------------------------------------------------------


_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def without_forbidden(text: str) -> str:
    """The text with U+FFFD in place of what is no Char of XML 1.0 (section 2.2)."""
    return _FORBIDDEN.sub("\ufffd", text)
