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


def first_keys(file: File) -> set[str]:
    """The keys of the first record; of one that cannot be parsed all that look like keys.

    Only a record's own keys say of which format it is: what lies deeper may be a user's.
    """
    head = file.head.lstrip(" \t\r\n[\ufeff")
    try:
        value, _ = json.JSONDecoder(parse_int=str).raw_decode(head)
    except (ValueError, RecursionError):
        return set(re.findall(r'"(\w+)"\s*:', file.head))
    return set(value) if isinstance(value, dict) else set()


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
