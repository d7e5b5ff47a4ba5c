"""The models that come with this package: LoRA adapters, a folder each; and what a folder holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

DEFAULT_MODEL = "smollm2-135m-ner"
# Of the files of a model's folder those that its answers depend on.
_DECIDING = (
    *("*.safetensors", "*.gguf", "*.jinja"),
    *("adapter_config.json", "config.json", "generation_config.json", "tokenizer*.json"),
)


def folder_of(model: str | Path) -> str:
    """The folder of a model by its name: of an adapter of this package, else the name itself."""
    return str(Path(__file__).parent / model) if str(model) == DEFAULT_MODEL else str(model)


def digest_of(model: str | Path) -> str:
    """A checksum of all that a model's folder says; empty where the model is no folder."""
    folder = Path(folder_of(model))
    total = hashlib.sha256()
    files = sorted(file for pattern in _DECIDING for file in folder.glob(pattern))
    for file in files:
        with file.open("rb") as opened:
            total.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest() if files else ""
