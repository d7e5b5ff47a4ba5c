"""What a run reports besides its log: TensorBoard's files, energy and emissions."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from constrained_ner.energy import check_country, tracker
from constrained_ner.errors import TrainingError, UnknownNameError, require

from .processes import is_main
from .recipe import Reporting

TENSORBOARD = "tensorboard"
EMISSIONS = "emissions.csv"


@contextmanager
def reporting(report: Reporting, folder: Path, step: int) -> Iterator[list[TrainerCallback]]:
    """The callbacks that a recipe asks for; only the main process reports.

    Parameters
    ----------
    step: after which the run goes on; what TensorBoard was told of later ones is withdrawn.
    """
    callbacks: list[TrainerCallback] = []
    energy = Energy(report.country, folder) if report.country and is_main() else None
    if energy is not None:
        callbacks.append(energy)
    if report.tensorboard and is_main():
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        make: Any = SummaryWriter
        show: Any = TensorBoardCallback
        callbacks.append(show(make(str(folder / TENSORBOARD), purge_step=step + 1)))
    try:
        yield callbacks
    finally:
        if energy is not None:
            energy.stop()


def check_report(report: Reporting) -> None:
    """Whether what a recipe asks for can be reported here.

    Raises
    ------
    MissingExtraError: a package is not installed. TrainingError: the country is unknown.
    """
    if report.tensorboard:
        require("tensorboard", "TensorBoard's files", "tensorboard")
    if report.country:
        try:
            check_country(report.country)
        except UnknownNameError as error:
            raise TrainingError(f"report.country: {error}") from None


class Energy(TrainerCallback):
    """Energy and emissions as codecarbon measures or estimates them, without a network.

    `emissions.csv` has a row for each part of a run that was stopped and went on, brought up to
    date whenever a checkpoint is written.
    """

    def __init__(self, country: str, folder: Path):
        self.tracker = tracker(
            country,
            project_name="cner train",
            output_dir=str(folder),
            output_file=EMISSIONS,
            on_csv_write="update",
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tracker.start()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tracker.flush()

    def stop(self) -> None:
        self.tracker.stop()


def energy_of(folder: Path) -> dict[str, float]:
    """Seconds, kWh and kg of CO2 equivalents of a run, all its parts; empty where not measured."""
    path = folder / EMISSIONS
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = {"seconds": "duration", "kwh": "energy_consumed", "co2_kg": "emissions"}
    if rows and not all(rows[-1].get(key) for key in keys.values()):
        rows.pop()  # a run that was killed has not written it to the end
    return {name: sum(float(row[key]) for row in rows) for name, key in keys.items()}
