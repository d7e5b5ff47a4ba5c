"""How far a command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from constrained_ner.cli.messages import is_quiet, say

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 30.0  # seconds between two lines where there is no terminal


class Progress:
    """What is done of something, and how long the rest will take.

    Parameters
    ----------
    unit: what items are, in the plural.
    items: how many there will be; None where that is not known.
    work: how much work they are together, in any unit; by default each item is as much as another.
    console: the terminal that is printed to meanwhile, if any; the bar stays below the output.
    silent: show nothing; with `-q`, too.
    """

    def __init__(
        self,
        unit: str,
        items: int | None = None,
        work: float | None = None,
        console: Console | None = None,
        *,
        silent: bool = False,
    ):
        self._silent = silent or is_quiet()
        self.unit = unit
        self._items, self._work = items, work
        self._done, self._worked = 0, 0.0
        self._console = console
        self._bar: Any = None
        self._began = self._said = monotonic()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not self._silent:
            self._bar = self._on_terminal()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def _on_terminal(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if self._share is not None:
            columns.insert(1, BarColumn())
        bar = Bar(
            *columns,
            console=self._console or Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # else it would go to the terminal, even if it is redirected
        )
        self._task = bar.add_task(self.status, total=1.0)
        return bar

    def add(self, items: int = 1, work: float = 0.0, unit: str = "") -> None:
        """Note that so much more is done.

        Parameters
        ----------
        unit: what the items are from now on.
        """
        self._done += items
        self._worked += work
        self.unit = unit or self.unit
        if self._bar:
            self._bar.update(self._task, completed=self._share or 0.0, description=self.status)
        elif not self._silent and monotonic() - self._said >= EVERY:
            self._said = monotonic()
            say(self.status)

    @property
    def _share(self) -> float | None:
        """How much of the work is done, from 0 to 1; None where its size is not known."""
        if self._work:
            open = self._items is not None and self._done < self._items
            return min(0.99 if open else 1.0, self._worked / self._work)
        return None if self._items is None else self._done / max(1, self._items)

    @property
    def status(self) -> str:
        """`12 of 40 documents, 31 %, 0:52, 1:55 left`."""
        spent = monotonic() - self._began
        share = self._share
        if share is None:
            return (
                f"{self._done} {self.unit}, {self._done / max(spent, 1e-3):.2f}/s, {clock(spent)}"
            )
        left = f", {clock(spent * (1 - share) / share)} left" if share else ""
        return f"{self._done} of {self._items} {self.unit}, {share:.0%}, {clock(spent)}{left}"


def clock(seconds: float) -> str:
    """A time as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress(items: Iterable[Any], unit: str) -> Iterator[Any]:
    """The items, while it is shown how many there have been."""
    size = len(items) if isinstance(items, list | tuple) else None
    with Progress(unit, size) as shown:
        for item in items:
            shown.add()
            yield item
