"""What TOML or JSON holds, as a typed dataclass; errors name the key and what was expected."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from constrained_ner.errors import InputError

T = TypeVar("T")

_NAMES = {"an object": "a table", "array": "a list"}  # what TOML and people call them


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises
    ------
    InputError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from None
    except ValueError as error:
        raise InputError(f"not TOML: {error}", path) from None
    except RecursionError:
        raise InputError("not TOML: nested too deeply", path) from None


def structure(type: type[T], values: Mapping[str, Any], whole: str) -> T:
    """A dataclass, with others in it, from parsed TOML or JSON.

    Types are taken strictly: `"3"` and `true` are no numbers. A list becomes a tuple and a string
    a path where the class has those.

    Parameters
    ----------
    whole: what the values are, for messages about no key in particular.

    Raises
    ------
    InputError: a key is missing, unknown or of a wrong type; or what the class itself raises.
    """
    try:
        # pydantic's strict mode knows no lists for tuples and no strings for paths but in JSON
        written = json.dumps(values, default=str)
        return TypeAdapter(type).validate_json(written, strict=True, extra="forbid")
    except ValidationError as error:
        raise InputError(_reason(type, values, whole, error)) from None


def _reason(type: type, values: Any, whole: str, error: ValidationError) -> str:
    """The first thing that is wrong: its key, its value, and what was expected."""
    first = error.errors()[0]
    keys: list[str] = []
    place = ""
    for step in first["loc"]:
        # pydantic names the branches of a union like keys, and the key that is missing
        if isinstance(values, Mapping) and step in values:
            keys.append(str(step))
            place += f".{step}" if place else str(step)
            values = values[step]
        elif isinstance(values, list | tuple) and isinstance(step, int):
            place += f"[{step}]"
            values = values[step]
    if first["type"] == "missing":
        return f"{place or whole} has no {first['loc'][-1]!r}"
    if first["type"] == "unexpected_keyword_argument":
        known = ", ".join(field.name for field in fields(_at(type, keys[:-1])))
        return f"unknown key {place!r}: expected one of {known}"
    expected = first["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{place or whole} is {values!r:.60}: expected {_NAMES.get(expected, expected)}"


def _at(type: Any, keys: list[str]) -> Any:
    """The dataclass that stands at a place in another one."""
    for key in keys:
        hint = get_type_hints(type).get(key)
        if hint is None:  # a key of a mapping, whose values are of this type
            continue
        type = next(part for part in (hint, *get_args(hint)) if is_dataclass(part))
    return type
