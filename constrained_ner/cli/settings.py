"""Defaults of options that a user keeps in a file: `cner.toml`, or `[tool.cner]` of a project.

    model = "models/ours"           # for every command that has the option
    [predict]
    labels = ["Disease", "Chemical"]
    min-confidence = 0.5

Environment variables come before the file (`CNER_PREDICT_MIN_CONFIDENCE`), and options that are
given before both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

import click

from constrained_ner.cli.messages import warn
from constrained_ner.errors import InputError
from constrained_ner.structuring import read_toml

FILE, PROJECT = "cner.toml", "pyproject.toml"
VARIABLE = "CNER_CONFIG"  # names another file
# Those of a server's key, of the cache of converted models, and of the tests.
_OTHER_VARIABLES = {VARIABLE, "CNER_API_KEY", "CNER_CACHE", "CNER_CORPORA", "CNER_HYPOTHESIS"}


def load_settings(group: click.Group, folder: Path | None = None) -> dict[str, Any]:
    """The defaults of each command, as click takes them (`default_map`).

    Parameters
    ----------
    folder: where to look; the file of the nearest folder above counts where it has none. By default
        the working folder.

    Raises
    ------
    InputError: the file is not TOML, or has a key or a value that no option takes; or there is no
        working folder.
    """
    _warn_of_variables(group)
    try:
        folder = folder or Path.cwd()
    except FileNotFoundError:
        raise InputError("the working folder is not there any more") from None
    path, values = _found(folder)
    if path is None:
        return {}
    return _Reader(path).defaults(group, values)


def _found(folder: Path) -> tuple[Path | None, Mapping[str, Any]]:
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named), read_toml(Path(named))
    for above in (folder, *folder.parents):
        if (above / FILE).is_file():
            return above / FILE, read_toml(above / FILE)
        if (above / PROJECT).is_file():
            tools = read_toml(above / PROJECT).get("tool", {})
            if isinstance(tools, dict) and "cner" in tools:
                own = tools["cner"]
                if not isinstance(own, dict):
                    reason = f"tool.cner is {own!r}: expected a table of options"
                    raise InputError(reason, above / PROJECT)
                return above / PROJECT, own
    return None, {}


class _Reader:
    """Checks the values of a file against the options that there are."""

    def __init__(self, path: Path):
        self.path = path

    def defaults(
        self,
        group: click.Group,
        values: Mapping[str, Any],
        above: Mapping[str, Any] | None = None,
        place: str = "",
    ) -> dict[str, Any]:
        """The defaults of the commands of a group.

        Parameters
        ----------
        above: values that hold for them, too, from the tables that this one is in. `place`: their
            names, each with a dot.
        """
        own = {key: value for key, value in values.items() if key not in group.commands}
        every = [_options(command) for command in _commands(group)]
        for key, value in own.items():
            takers = [options[key] for options in every if key in options]
            if not takers:
                known = {*group.commands, *chain.from_iterable(every)}
                raise self._unknown(f"{place}{key}", {f"{place}{name}" for name in known})
            # The commands differ in what they take under a name; one is enough.
            problems = [self._problem(f"{place}{key}", value, option) for option in takers]
            if all(problems) and problems[0] is not None:
                raise problems[0]
        shared = {**(above or {}), **own}
        found: dict[str, Any] = {}
        for name, command in group.commands.items():
            table, title = values.get(name, {}), f"{place}{name}"
            if not isinstance(table, Mapping):
                raise InputError(f"{title} is {table!r}: expected a table of options", self.path)
            if isinstance(command, click.Group):
                found[name] = self.defaults(command, table, shared, f"{title}.")
                continue
            options = _options(command)
            for key in table:
                if key not in options:
                    raise self._unknown(f"{title}.{key}", {f"{title}.{o}" for o in options})
            taken = {
                key: value
                for key, value in shared.items()
                if key in options and self._problem(key, value, options[key]) is None
            }
            found[name] = {
                options[key].name: self._value(f"{title}.{key}", value, options[key])
                for key, value in {**taken, **table}.items()
            }
        return found

    def _problem(self, key: str, value: Any, option: click.Option) -> InputError | None:
        """Why an option does not take a value; None where it does."""
        try:
            self._value(key, value, option)
        except InputError as error:
            return error
        return None

    def _value(self, key: str, value: Any, option: click.Option) -> Any:
        """A value as the option takes it.

        A list of names is one string for some, and a path is relative to the file.
        """
        if option.is_flag != isinstance(value, bool):
            expected = "true or false" if option.is_flag else "no true or false"
            raise InputError(f"{key} is {value!r}: expected {expected}", self.path)
        if option.multiple:
            value = value if isinstance(value, list) else [value]
        elif isinstance(value, list):
            if any("," in str(one) for one in value):
                raise InputError(f"{key} is {value!r}: expected names without commas", self.path)
            value = ",".join(map(str, value))
        if isinstance(option.type, click.Path) and isinstance(value, str) and value != "-":
            value = str(self.path.parent / value)
        try:
            for one in value if option.multiple else [value]:
                converted = option.type.convert(one, option, None)
                if isinstance(one, float) and isinstance(converted, int):
                    raise InputError(f"{key} is {one}: expected an integer", self.path)
        except click.UsageError as error:
            raise InputError(f"{key}: {error.format_message()}", self.path) from None
        except (OverflowError, TypeError, ValueError):
            raise InputError(
                f"{key} is {value!r}: expected another kind of value", self.path
            ) from None
        return value

    def _unknown(self, key: str, known: set[str]) -> InputError:
        near = get_close_matches(key, known, n=1)
        return InputError(
            f"no option {key}" + (f": is {near[0]} meant?" if near else ""), self.path
        )


def name_variables(group: click.Group, prefix: str = "CNER") -> None:
    """Let each option be set by a variable with its name: `CNER_PREDICT_MIN_CONFIDENCE`."""
    for name, command in group.commands.items():
        own = f"{prefix}_{name.upper()}"
        if isinstance(command, click.Group):
            name_variables(command, own)
            continue
        for key, option in _options(command).items():
            shared = [option.envvar] if isinstance(option.envvar, str) else []
            option.envvar = [f"{own}_{key.upper().replace('-', '_')}", *shared]


def _warn_of_variables(group: click.Group) -> None:
    """Name variables that look like ours and that nothing takes."""
    options = (o for c in _commands(group) for o in _options(c).values())
    known = {name for option in options for name in option.envvar or ()}
    own = {name for name in os.environ if name.startswith("CNER_")}
    for name in sorted(own - known - _OTHER_VARIABLES):
        near = get_close_matches(name, known, n=1)
        warn(f"no option takes the variable {name}" + (f": is {near[0]} meant?" if near else ""))


def _commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield command


def _options(command: click.Command) -> dict[str, click.Option]:
    """The options that have a value, by their long names without the dashes."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value
        for name in option.opts
        if name.startswith("--")
    }
