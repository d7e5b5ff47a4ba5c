"""What results are measured on and with: part of each file of results."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import constrained_ner
from constrained_ner.adapters import folder_of
from constrained_ner.corpora.files import sha256_of
from constrained_ner.engines.models import processor_name

SAMPLES = Path(constrained_ner.__file__).parent / "samples" / "sentences.jsonl"


def machine() -> str:
    """The processor and its cores."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def weights_of(model: str) -> str:
    """A fingerprint of a folder's weights: a model may change under its name."""
    files = sorted(Path(folder_of(model)).glob("*.safetensors"))
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()[:16]


def circumstances(packages: Iterable[str], model: str | None = None) -> dict[str, Any]:
    """The day, the machine and the versions; with a model its name and weights."""
    found: dict[str, Any] = {
        "day": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(packages),
    }
    return found if model is None else {"model": model, "weights": weights_of(model), **found}


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
