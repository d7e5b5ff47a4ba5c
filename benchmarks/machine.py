"""What results are measured on and with."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import constrained_ner
from constrained_ner.engines.models import processor_name

SAMPLES = Path(constrained_ner.__file__).parent / "samples" / "sentences.jsonl"


def machine() -> str:
    """The processor and its cores."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def quantile(values: Iterable[float], share: float) -> float:
    """The least value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
