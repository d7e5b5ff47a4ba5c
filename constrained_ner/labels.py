"""Label sets, and the reversible slug in which a label becomes a bare word."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from constrained_ner.errors import LabelError


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels as a tuple.

    Raises
    ------
    LabelError: there is none, one is empty or white space, one stands twice, or one cannot be
        encoded as UTF-8.
    """
    if isinstance(labels, str):
        raise LabelError(f"expected a list of labels, got the string {labels!r}")
    if not labels:
        raise LabelError("no labels: expected at least one")
    for i, label in enumerate(labels):
        if not label or label.isspace():
            raise LabelError(f"label {i + 1} is {label!r}: expected at least one visible character")
        if label != label.strip():
            raise LabelError(f"label {label!r} begins or ends with white space")
        try:
            label.encode()
        except UnicodeEncodeError:
            raise LabelError(f"label {label!r} holds a lone surrogate") from None
        if label in labels[:i]:
            raise LabelError(f"label {label!r} is asked for twice")
    return tuple(labels)


def slug(label: str) -> str:
    """The label as one bare word: ASCII letters, digits, `_`, `.` and `-` stay, the rest is %XX.

    Percent-encoding of the UTF-8 bytes, so that no two labels share a slug; `unslug` is its
    inverse. ASCII, because llguidance's lexer, which goes back by one byte at most, must be able
    to stop at any character of a tag.
    """
    return "".join(
        c
        if c.isascii() and (c.isalnum() or c in "_.-")
        else "".join(f"%{byte:02X}" for byte in c.encode())
        for c in label
    )


def unslug(word: str) -> str:
    """The label whose slug is `word`; the word itself where it is no slug."""
    try:
        return unquote(word, errors="strict")
    except UnicodeDecodeError:
        return word
