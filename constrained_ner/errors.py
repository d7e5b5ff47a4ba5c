"""The errors of this package. All of them derive from `CnerError`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any


class CnerError(Exception):
    """The base class of every error that this package raises on purpose.

    Attributes
    ----------
    row: the index of the prompt in its batch, where the error is about a single prompt.
    """

    row: int | None = None

    def __reduce__(self) -> Any:
        # From its message, not by its constructor, whose parameters are others.
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[CnerError], message: tuple[str, ...], state: dict[str, Any]) -> CnerError:
    """An error that comes out of another process."""
    error = kind.__new__(kind)
    error.args = message
    vars(error).update(state)
    return error


class InputError(CnerError):
    """A file or a record cannot be read.

    Parameters
    ----------
    reason: what is wrong, and what was expected.
    path: the file, if there is one.
    line: the number of the line in that file, counted from 1, if it is known.
    """

    def __init__(self, reason: str, path: str | Path | None = None, line: int | None = None):
        self.reason, self.line = reason, line
        self.path = None if path is None else str(path)
        place = "" if path is None else f"{path}:" if line is None else f"{path}:{line}:"
        super().__init__(f"{place} {reason}".strip())


class MissingPackageError(CnerError):
    """An optional package is not installed; the message says how to install it."""

    def __init__(self, what: str, package: str):
        super().__init__(f"{what}: pip install {package}")


class MissingExtraError(MissingPackageError):
    """The same where an extra of this package installs it."""

    def __init__(self, what: str, extra: str):
        self.extra = extra
        super().__init__(what, f"'constrained_ner[{extra}]'")


def require(package: str, what: str, extra: str) -> None:
    """See that a package of an extra is installed, before work is spent.

    Parameters
    ----------
    what: needs it. `extra`: installs it.

    Raises
    ------
    MissingExtraError: it is not.
    """
    if find_spec(package) is None:
        raise MissingExtraError(what, extra)


class LabelError(CnerError):
    """A label, or a set of labels, that a model cannot be asked for."""


class UnknownNameError(CnerError):
    """There is no format, level, model or option of this name; the message lists all there are."""


class InexpressibleError(CnerError):
    """A format cannot write an entity; the message names both and gives the reason."""


class AnswerError(CnerError):
    """An answer does not follow its format.

    Attributes
    ----------
    format: the name of the format.
    position: the offset of the first character that cannot be right, in code points of the answer.
    expected: what could have stood there.
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
    """No grammar can be built for this input, or llguidance refuses it."""


class BudgetError(CnerError):
    """The token budget is smaller than the shortest answer."""


class DecodingError(CnerError):
    """Constrained decoding failed for one row of a batch, whose index is `row`."""

    def __init__(self, reason: str, row: int | None = None):
        super().__init__(reason)
        self.row = row


class ModelError(CnerError):
    """A model or a tokenizer cannot be loaded, or cannot be used."""


class TrainingError(CnerError):
    """Training cannot start or continue; the message says why and what to change."""


def reason_of(error: BaseException, *, kind: bool = False) -> str:
    """What an error says, on one line of at most 300 characters; its kind where it says nothing.

    Parameters
    ----------
    kind: put its kind in front in any case, for errors whose words alone say little.
    """
    said, name = " ".join(str(error).split()), type(error).__name__
    return (f"{name}: {said}" if kind and said else said or name)[:300]
