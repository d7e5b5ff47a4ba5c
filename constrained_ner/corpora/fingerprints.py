"""Fingerprints of documents: whether a text was among others, without keeping those others.

A model that was trained here has those of its training documents beside it, so that a benchmark can
say which of its own documents the model has seen.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from constrained_ner.atomic import whole
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

FILE = "documents.fingerprints"
SIZE = 8  # bytes of one: among 100,000 documents two are alike by chance once in 3.7e9 times

Fingerprint = bytes


def fingerprint(document: Document) -> Fingerprint:
    """That of a text's letters and digits, in lower case.

    Spaces, punctuation and other spellings of one character do not count, for one corpus comes
    tokenised and another not. A text without letters and digits counts as it stands.
    """
    folded = unicodedata.normalize("NFKC", document.text).casefold()
    letters = "".join(filter(str.isalnum, folded))
    return blake2b((letters or document.text).encode(), digest_size=SIZE).digest()


def save_fingerprints(found: Iterable[Fingerprint], folder: Path) -> None:
    """Write fingerprints into the folder of a model: sorted, each once, nothing between."""
    with whole(folder / FILE) as part:
        part.write_bytes(b"".join(sorted(set(found))))


def load_fingerprints(folder: str | Path) -> frozenset[Fingerprint] | None:
    """What `save_fingerprints` has written; None where there is no such file.

    Raises
    ------
    InputError: the file is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    data = path.read_bytes()
    if len(data) % SIZE:
        raise InputError(f"damaged: {len(data)} bytes: expected a multiple of {SIZE}", path)
    return frozenset(data[at : at + SIZE] for at in range(0, len(data), SIZE))
