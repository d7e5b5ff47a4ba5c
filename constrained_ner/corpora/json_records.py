"""JSON records of a file: one a line, or the items of one list."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, TypeVar

from constrained_ner.corpora.files import File
from constrained_ner.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class JsonRecord:
    """A parsed record and where it stands.

    Attributes
    ----------
    number: of its line, or of the item in the list, from 1.
    line: of the file, where each record has its own.
    """

    value: object
    file: File
    number: int
    line: int | None

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.file.place}:{self.line}" if self.line else f"{self.file.place}: {self._item}"

    @property
    def _item(self) -> str:
        return f"record {self.number}"

    def error(self, reason: str) -> InputError:
        """An `InputError` about this record."""
        reason = reason if self.line else f"{self._item}: {reason}"
        return InputError(reason, self.file.place, self.line)


def is_list(file: File) -> bool:
    """Whether a file is one list of records; else each line is a record."""
    return file.suffix == ".json" and file.head.lstrip().startswith("[")


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|[\[\]{}]', re.DOTALL)


def first_keys(file: File) -> set[str]:
    """The keys of the first record; of one that cannot be parsed those that its beginning has.

    Only a record's own keys say of which format it is: what lies deeper may be a user's.
    """
    start = beginning(file).lstrip(" \t\r\n[\ufeff")
    try:
        value, _ = json.JSONDecoder(parse_int=str).raw_decode(start)
    except (ValueError, RecursionError):
        pass
    else:
        return set(value) if isinstance(value, dict) else set()
    found, depth = set(), 0
    for match in _STRING_OR_BRACKET.finditer(start):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if not depth:
                break
        elif depth == 1 and match[1]:
            found.add(match[0].removesuffix(match[1])[1:-1])
    return found


def beginning(file: File) -> str:
    """The beginning of a file: of one with a record a line at least the first record."""
    if is_list(file):
        return file.head
    try:
        lines = (line for _, line in file.lines() if isinstance(line, str) and line.strip())
        return max(next(lines, ""), file.head, key=len)
    except InputError:
        return file.head


def documents_of_records(
    records: Iterable[JsonRecord | InputError], make: Callable[[JsonRecord], T]
) -> Iterator[T | InputError]:
    """What is made of each record; where that fails the error names the record."""
    for record in records:
        if isinstance(record, InputError):
            yield record
            continue
        try:
            yield make(record)
        except InputError as error:
            yield record.error(error.reason)


# ---- values of a wrong type ----------------------------------------------------------------------
# Each of these gives the value back, or raises an `InputError` that says what it is.


def expect_string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {value!r:.80}: expected a string")
    return value


def expect_list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{what} is {value!r:.80}: expected a list")
    return value


def expect_object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} is {value!r:.80}: expected an object")
    return value


def expect_objects(value: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{what} is {value!r:.80}: expected a list of objects")
    return value


# ---- reading and writing -------------------------------------------------------------------------


def json_line(record: dict[str, Any]) -> str:
    """A record as a line; a lone surrogate, which UTF-8 does not have, as JSON escapes it."""
    line = json.dumps(record, ensure_ascii=False) + "\n"
    return line.encode(errors="backslashreplace").decode()


def json_value(value: Any) -> Any:
    """A value of a table as JSON can hold it: dates and times as ISO 8601 writes them."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(one) for one in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def parsed(text: str) -> Any:
    """A value of JSON. What Python takes beside that, NaN and the infinities, is null."""

    def number(digits: str) -> float | None:
        value = float(digits)
        return value if math.isfinite(value) else None

    return json.loads(text, parse_constant=lambda _: None, parse_float=number)


def read_records(file: File) -> Iterator[JsonRecord | InputError]:
    """Each record, or an `InputError` for a line that is not JSON; blank lines are passed over.

    Raises
    ------
    InputError: the file cannot be read, or is a list that is not JSON.
    """
    if is_list(file):
        try:
            values = parsed(file.text())
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON: {error}", file.place) from None
        for number, value in enumerate(values, 1):
            yield JsonRecord(value, file, number, None)
        return
    for number, line in file.lines():
        if isinstance(line, InputError):
            yield line
        elif line.strip():
            try:
                value = parsed(line)
            except (ValueError, RecursionError) as error:
                yield InputError(f"not JSON: {error}", file.place, number)
            else:
                yield JsonRecord(value, file, number, number)
