"""The models that come with this package: LoRA adapters, a folder each; and what a folder holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from constrained_ner.corpora.files import sha256_of

DEFAULT_MODEL = "smollm2-135m-ner"
BASE_MODEL = "smollm2-135m"  # that it is put on, see `engines.converted`
# Of the files of a model's folder those that its answers depend on.
_DECIDING = (
    *("*.safetensors", "*.gguf", "*.jinja", "adapter_model.bin"),
    *("adapter_config.json", "config.json", "generation_config.json", "tokenizer*.json"),
)


def folder_of(model: str | Path) -> str:
    """The folder of a model by its name: of an adapter of this package, else the name itself."""
    return str(Path(__file__).parent / model) if str(model) == DEFAULT_MODEL else str(model)


def digest_of(model: str | Path) -> str:
    """A checksum of the file or folder of a model; empty where it is neither.

    That of an adapter is of the model that it is for, too, where this is a file or a folder.

    Raises
    ------
    InputError: a file cannot be read.
    """
    lines = list(_sums(Path(folder_of(model)), ()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""


def _sums(path: Path, above: tuple[Path, ...]) -> Iterator[str]:
    files = sorted(file for pattern in _DECIDING for file in path.glob(pattern))
    for file in [path] if path.is_file() else files:
        yield f"{sha256_of(file)}  {file.name}"
    base = _base_of(path)
    if base is not None and base not in above:
        yield from _sums(base, (*above, path))


def _base_of(folder: Path) -> Path | None:
    """What the adapter in a folder names as its model; None where it is no adapter."""
    try:
        value = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return Path(folder_of(value["base_model_name_or_path"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # which is told where the model is loaded
