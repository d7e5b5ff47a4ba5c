"""Sets of labels, and labels as single words (slugs)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

from constrained_ner.errors import LabelError


def check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels as a tuple, if a model can be asked for them.

    Raises
    ------
    LabelError: there are no labels; or one is empty, begins or ends with white space, occurs twice,
        or cannot be encoded as UTF-8.
    """
    if isinstance(labels, str):
        raise LabelError(f"expected a list of labels, got the string {labels!r}")
    labels = tuple(labels)
    if not labels:
        raise LabelError("no labels: expected at least one")
    for i, label in enumerate(labels):
        if not isinstance(label, str):
            raise LabelError(f"label {i + 1} is {label!r:.80}: expected a string")
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
    return labels


def names_of(value: str) -> tuple[str, ...]:
    """The names in a list separated by commas."""
    return tuple(name.strip() for name in value.split(","))


def slug(label: str) -> str:
    """The label as a single ASCII word.

    ASCII letters, digits, `_`, `.` and `-` are kept, and every other character is percent-encoded
    as UTF-8. So no two labels have the same slug, and `unslug` gives the label back. It has to be
    ASCII because llguidance's lexer, which can step back by one byte only, must be able to stop
    after any character of a tag.
    """
    return quote(label, safe="").replace("~", "%7E")


def unslug(word: str) -> str:
    """The label that has this slug; the word itself if it is not a slug."""
    try:
        return unquote(word, errors="strict")
    except UnicodeDecodeError:
        return word
