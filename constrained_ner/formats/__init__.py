"""The twelve formats, one module each, found by looking into this folder.

A new format is a module here with one subclass of `Format` that has a `name`, a structure
`grammars/<name>.lark` and cases in `tests/cases/<name>.json`.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

from constrained_ner.errors import UnknownNameError
from constrained_ner.formats.answers import Decoded, Places, Problem, ProblemKind, Settled
from constrained_ner.formats.base import Feature, Format
from constrained_ner.formats.options import Options

__all__ = [
    "FORMATS",
    "Decoded",
    "Feature",
    "Format",
    "Options",
    "Places",
    "Problem",
    "ProblemKind",
    "Settled",
    "get_format",
]


def _discover() -> dict[str, Format]:
    found: dict[str, Format] = {}
    for module in iter_modules(__path__):
        for member in vars(import_module(f"{__name__}.{module.name}")).values():
            if (
                inspect.isclass(member)
                and issubclass(member, Format)
                and getattr(member, "name", None) == module.name
            ):
                found[module.name] = member()
    return found


FORMATS: dict[str, Format] = _discover()


def get_format(name: str, options: Options | None = None) -> Format:
    """A format by name.

    Raises
    ------
    UnknownNameError: there is none of that name.
    """
    if name not in FORMATS:
        raise UnknownNameError(f"unknown format {name!r}: expected one of {', '.join(FORMATS)}")
    return FORMATS[name] if options is None else type(FORMATS[name])(options)
