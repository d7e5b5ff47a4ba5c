"""The models that come with this package: LoRA adapters, a folder each."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = "smollm2-135m-ner"


def folder_of(model: str | Path) -> str:
    """The folder of a model by its name: of an adapter of this package, else the name itself."""
    return str(Path(__file__).parent / model) if str(model) == DEFAULT_MODEL else str(model)
