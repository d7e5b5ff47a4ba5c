"""The models that come with this package: LoRA adapters, a folder each; and what a folder holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from constrained_ner.corpora.files import sha256_of

DEFAULT_MODEL = "smollm2-135m-ner"
BASE_MODEL = "smollm2-135m"  # that it is put on, see `engines.converted`
# Of the files of a model's folder those that its answers depend on.
_DECIDING = (
    *("*.safetensors", "*.gguf", "*.jinja"),
    *("adapter_config.json", "config.json", "generation_config.json", "tokenizer*.json"),
)


def folder_of(model: str | Path) -> str:
    """The folder of a model by its name: of an adapter of this package, else the name itself."""
    return str(Path(__file__).parent / model) if str(model) == DEFAULT_MODEL else str(model)


def digest_of(model: str | Path) -> str:
    """A checksum of the file or folder of a model; empty where it is neither.

    Raises
    ------
    InputError: a file cannot be read.
    """
    path = Path(folder_of(model))
    files = sorted(file for pattern in _DECIDING for file in path.glob(pattern))
    lines = [f"{sha256_of(file)}  {file.name}" for file in ([path] if path.is_file() else files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""
