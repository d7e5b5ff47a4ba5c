"""What generation takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter


@dataclass
class Costs:
    """Sums over batches.

    Attributes
    ----------
    calls: of the model; a batch counts as one. `tokens`: of all answers, their ends included.
    seconds: of everything. `grammar_seconds`: of building grammars, which `cner predict` does
        beside the model; `mask_seconds`: of making and applying masks.
    """

    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    grammar_seconds: float = 0.0
    mask_seconds: float = 0.0

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time of a block to one of the sums, also where it fails."""
        started = perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + perf_counter() - started)
