"""What errors say, and that they come out of another process as they are."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator

import pytest

from constrained_ner.errors import AnswerError, CnerError, DecodingError, InputError, reason_of


def kinds(kind: type[CnerError]) -> Iterator[type[CnerError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from kinds(one)


@pytest.mark.parametrize("kind", sorted(set(kinds(CnerError)), key=str))
def test_every_kind_survives_another_process(kind: type[CnerError]) -> None:
    numbers = {"position": 3, "line": 7, "row": 2}
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    named = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    error = kind(*(numbers.get(name, f"a {name}") for name in named or ["reason"]))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_what_they_know_survives_too() -> None:
    for error in (
        InputError("no text", "a.jsonl", 3),
        AnswerError("multi_term", "[", 1, "a string"),
        DecodingError("no way on", row=4),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert vars(again) == vars(error)
        assert vars(again)


def test_what_an_error_says_is_one_line() -> None:
    assert reason_of(ValueError("two\n  lines")) == "two lines"
    assert reason_of(ValueError("two\n  lines"), kind=True) == "ValueError: two lines"
    assert reason_of(ValueError()) == reason_of(ValueError(), kind=True) == "ValueError"
    assert len(reason_of(ValueError("a" * 999))) == 300
