"""Energy and emissions, measured or estimated by codecarbon, without using the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from constrained_ner.errors import UnknownNameError, require


def check_country(country: str) -> None:
    """See that energy can be measured here, and that the energy mix of the country is known.

    Raises
    ------
    MissingExtraError: codecarbon is not installed.
    UnknownNameError: the country is unknown.
    """
    require("codecarbon", "energy and emissions", "energy")
    from codecarbon.input import DataSource

    source: Any = DataSource
    if country not in source().get_global_energy_mix_data():
        raise UnknownNameError(
            f"unknown country {country!r}: expected an ISO 3166 code of three letters, such as FRA"
        )


def tracker(country: str, **options: Any) -> Any:
    """A tracker of codecarbon that may run at the same time as others."""
    from codecarbon import OfflineEmissionsTracker

    make: Any = OfflineEmissionsTracker
    return make(country_iso_code=country, allow_multiple_runs=True, log_level="critical", **options)


@contextmanager
def measured(country: str) -> Iterator[dict[str, float]]:
    """Measure what this machine uses while a block runs.

    Yields
    ------
    A dictionary that has `kwh` and `co2_kg`, kg of CO2 equivalents, once the block is done. It
    stays empty where no country is given.
    """
    found: dict[str, float] = {}
    if not country:
        yield found
        return
    watch = tracker(country, output_methods=[])
    watch.start()
    try:
        yield found
    finally:
        emissions = watch.stop()
        found |= {"kwh": watch.final_emissions_data.energy_consumed, "co2_kg": emissions or 0.0}
