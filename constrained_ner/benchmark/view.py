"""Results as the tables look at them: which ways there are, and their cells, draw by draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from constrained_ner.evaluation import Counts, Scores

FREE = "free"
Cell = dict[str, Any]
Way = tuple[str, str]  # variant, level


@dataclass(frozen=True)
class Group:
    """A model, in one configuration where it was trained for this study, over all its draws.

    Attributes
    ----------
    names: in the results, one a draw. `configuration`: empty where the model was taken as it is.
    training: what each training took, as far as it is known.
    """

    model: str
    configuration: str
    names: tuple[str, ...]
    training: tuple[dict[str, Any], ...] = ()

    @property
    def title(self) -> str:
        parts = (self.model, self.configuration)
        draws = f"{len(self.names)} draws" if len(self.names) > 1 else ""
        return ", ".join(part for part in (*parts, draws) if part)


class View:
    """
    Attributes
    ----------
    data, variants, levels: those of the results, in their order.
    groups: the models, draws of one training together.
    """

    def __init__(self, results: dict[str, Any]):
        self.results = results
        self.data: list[dict[str, Any]] = results["data"]
        self.variants: list[str] = results["variants"]
        self.levels: list[str] = results["levels"]
        self.missing: list[Cell] = results["missing"]
        self.names = [data["name"] for data in self.data]
        self.documents: dict[str, int] = {data["name"]: data["documents"] for data in self.data}
        self._cells = {
            (cell["model"], cell["data"], cell["variant"], cell["level"]): cell
            for cell in results["cells"]
        }
        self._pooled = {
            (cell["model"], cell["variant"], cell["level"]): cell for cell in results["pooled"]
        }
        planned = [*results["cells"], *self.missing]
        self._planned = {(cell["model"], cell["variant"], cell["level"]) for cell in planned}
        self.groups = _groups(results)

    @property
    def masked(self) -> list[str]:
        return [level for level in self.levels if level != FREE]

    def ways(self, group: Group) -> list[Way]:
        """The variants and levels that a group was to be asked in."""
        return [
            (variant, level)
            for variant in self.variants
            for level in self.levels
            if any((name, variant, level) in self._planned for name in group.names)
        ]

    def variants_of(self, group: Group) -> list[str]:
        return list(dict.fromkeys(variant for variant, _ in self.ways(group)))

    def draws(self, group: Group, way: Way, data: Iterable[str] | None = None) -> list[list[Cell]]:
        """The cells of each draw, of these data sets; by default of all.

        A draw of which one is missing is left out: its sums would be of something else.
        """
        names = self.names if data is None else list(data)
        found = []
        for model in group.names:
            cells = [self._cells.get((model, name, *way)) for name in names]
            whole = [cell for cell in cells if cell is not None]
            if names and len(whole) == len(names):
                found.append(whole)
        return found

    def pooled(self, group: Group, way: Way) -> list[Cell]:
        """Strict scores over all data sets, draw by draw."""
        found = (self._pooled.get((model, *way)) for model in group.names)
        return [cell for cell in found if cell is not None]

    def cells(self, group: Group | None = None) -> list[Cell]:
        chosen = self.results["cells"]
        return [cell for cell in chosen if group is None or cell["model"] in group.names]

    def data_with(self, kind: str) -> list[str]:
        """The data sets with nested, or with discontinuous, gold entities."""
        counted = {
            cell["data"]
            for cell in self.results["cells"]
            for row in cell["breakdowns"].get(kind, ())
            if row["name"] == kind and row["gold"]
        }
        return [name for name in self.names if name in counted]


def _groups(results: dict[str, Any]) -> list[Group]:
    runs: dict[str, dict[str, Any]] = results.get("runs", {})
    found: dict[tuple[str, str], list[str]] = {}
    for name in results["models"]:
        run = runs.get(name)
        key = (run["model"], run["configuration"]) if run else (name, "")
        found.setdefault(key, []).append(name)
    return [
        Group(*key, tuple(names), tuple(runs[n]["training"] for n in names if n in runs))
        for key, names in found.items()
    ]


def scores_of(cells: Sequence[Cell], pick: Callable[[Cell], dict[str, Any] | None]) -> Scores:
    """Precision, recall and F1 from the sums of counts over cells."""
    total = Counts()
    for cell in cells:
        if counts := pick(cell):
            total += Counts(*(counts[name] for name in ("gold", "found", "predicted", "correct")))
    return total.scores


def metric(name: str) -> Callable[[Cell], dict[str, Any]]:
    """Picks one of a cell's scores."""

    def pick(cell: Cell) -> dict[str, Any]:
        found: dict[str, Any] = cell["scores"][name]
        return found

    return pick


def row_of(kind: str, name: str) -> Callable[[Cell], dict[str, Any] | None]:
    """Picks one row of a cell's breakdown."""

    def pick(cell: Cell) -> dict[str, Any] | None:
        return next((row for row in cell["breakdowns"].get(kind, ()) if row["name"] == name), None)

    return pick


def health_sum(cells: Sequence[Cell], key: str) -> int:
    """`answers`, `parsed` and so on, or one of the problems, over cells."""
    known = [cell["health"] for cell in cells if cell["health"]]
    return sum(health[key] if key in health else health["problems"].get(key, 0) for health in known)


def tenths(cells: Sequence[Cell]) -> list[tuple[float, float, float]]:
    """By tenths of confidence: entities, those that are right, the sum of their confidences.

    Empty where none was recorded.
    """
    known = [cell["confidence"] for cell in cells if cell.get("confidence")]
    return [
        (sum(n for n, _, _ in tenth), sum(r for _, r, _ in tenth), sum(c for _, _, c in tenth))
        for tenth in zip(*known, strict=True)
    ]


# What is not true to the text: surfaces, offsets, copies.
UNTRUE = ("not in the text", "offset out of range", "copy differs from the text")


def untrue(cells: Sequence[Cell]) -> int:
    return sum(health_sum(cells, kind) for kind in UNTRUE)


def cost(cells: Sequence[Cell], key: str) -> float | None:
    """A sum of costs; None where it was not taken."""
    values = [cell.get("costs", {}).get(key) for cell in cells]
    return None if None in values else float(sum(value for value in values if value is not None))
