"""Grammar-constrained decoding for generative biomedical named entity recognition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from constrained_ner.documents import Document, Entity
from constrained_ner.errors import CnerError
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.formats.grammar import Grammar, Level

if TYPE_CHECKING:
    from constrained_ner.pipeline.extractor import Extractor
    from constrained_ner.pipeline.prediction import to_frame

__version__ = "0.1.0"
__all__ = [
    "FORMATS",
    "CnerError",
    "Document",
    "Entity",
    "Extractor",
    "Grammar",
    "Level",
    "get_format",
    "to_frame",
]


def __getattr__(name: str) -> Any:
    if name == "Extractor":  # which loads torch
        from constrained_ner.pipeline.extractor import Extractor

        return Extractor
    if name == "to_frame":
        from constrained_ner.pipeline.prediction import to_frame

        return to_frame
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
