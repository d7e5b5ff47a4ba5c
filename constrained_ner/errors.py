"""Every error that this package raises on purpose derives from `CnerError`."""

from __future__ import annotations

from pathlib import Path


class CnerError(Exception):
    """Base class: catching it catches all of ours and none of anybody else's.

    Attributes
    ----------
    row: index of the prompt of a batch that the error is about, where it is about one.
    """

    row: int | None = None


class InputError(CnerError):
    """A file or a record cannot be read.

    Parameters
    ----------
    reason: what is wrong, and what was expected.
    path: the file, if there is one.
    line: 1-based line number in that file, if it is known.
    """

    def __init__(self, reason: str, path: str | Path | None = None, line: int | None = None):
        self.reason, self.line = reason, line
        self.path = None if path is None else str(path)
        place = "" if path is None else f"{path}:" if line is None else f"{path}:{line}:"
        super().__init__(f"{place} {reason}".strip())


class MissingExtraError(CnerError):
    """An optional package is not installed; the message names the extra that brings it."""

    def __init__(self, what: str, extra: str):
        self.extra = extra
        super().__init__(f"{what}: pip install 'constrained_ner[{extra}]'")


class LabelError(CnerError):
    """A label, or a set of labels, that cannot be asked for."""


class UnknownNameError(CnerError):
    """A format, level, model or option that does not exist; the message lists those that do."""


class InexpressibleError(CnerError):
    """A format cannot write an entity; the message names both and says why."""


class AnswerError(CnerError):
    """An answer that does not follow its format.

    Attributes
    ----------
    format: name of the format.
    position: offset in the answer, in code points, of the first character that cannot be right.
    """

    def __init__(self, format: str, answer: str, position: int, expected: str):
        self.format, self.position, self.expected = format, position, expected
        before, after = answer[max(0, position - 30) : position], answer[position : position + 30]
        found = f"found {after!r}" if after else "the answer ends"
        super().__init__(
            f"{format}: not an answer of this format: at offset {position}, after {before!r}, "
            f"{found}; expected {expected}"
        )


class GrammarError(CnerError):
    """A grammar cannot be built for this input, or the engine refuses it."""


class BudgetError(CnerError):
    """The token budget is smaller than the shortest answer."""


class DecodingError(CnerError):
    """Constrained decoding of one row failed; of a batch `row` says which."""

    def __init__(self, reason: str, row: int | None = None):
        super().__init__(reason)
        self.row = row


class ModelError(CnerError):
    """A model or tokenizer cannot be loaded or cannot be used."""


class TrainingError(CnerError):
    """Training cannot begin or go on; the message says why and what to change."""
