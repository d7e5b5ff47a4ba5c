"""Grammar-constrained decoding for generative biomedical named entity recognition."""

from constrained_ner.documents import Document, Entity
from constrained_ner.errors import CnerError
from constrained_ner.formats import FORMATS, get_format
from constrained_ner.grammar import Grammar, Level

__version__ = "0.1.0"
__all__ = ["FORMATS", "CnerError", "Document", "Entity", "Grammar", "Level", "get_format"]
