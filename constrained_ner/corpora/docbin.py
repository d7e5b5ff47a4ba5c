"""spaCy's `DocBin`, for `spacy train` (extra `spacy`); written only.

All mentions are in the span group `sc`, with their confidences in its attribute `scores`, where
spaCy's own span categorizer has them; those that do not overlap are `doc.ents`, too. Tokens are
those of spaCy's English tokenizer, split further where a mention begins or ends inside one. The
space after a token is no token, so that a mention that begins or ends with it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.documents import Document
from constrained_ner.errors import require

SPAN_GROUP = "sc"


def check_installed() -> None:
    """Raises `MissingExtraError` without spaCy."""
    require("spacy", "spaCy's DocBin", "spacy")


def write(documents: Iterable[Document], path: Path, losses: ConversionLosses) -> None:
    """A `DocBin` of all documents; it needs spaCy."""
    import spacy
    from spacy.tokens import DocBin
    from spacy.util import filter_spans

    nlp = spacy.blank("en")
    nlp.max_length = 2**31 - 1
    store = DocBin(store_user_data=True)
    for document in documents:
        losses.passages(document)
        doc = nlp.make_doc(document.text)
        entities = losses.contiguous(document)
        _split(doc, {offset for entity in entities for offset in (entity.start, entity.end)})
        spans, scores = [], []
        for entity in entities:
            span = doc.char_span(entity.start, entity.end, label=entity.label)
            if span is None:
                losses.drop("mentions that begin or end between two tokens", document, entity)
            else:
                spans.append(span)
                scores.append(document.confidences.get(entity, math.nan))
        doc.spans[SPAN_GROUP] = spans
        if document.confidences:
            doc.spans[SPAN_GROUP].attrs["scores"] = scores
        doc.ents = filter_spans(spans)
        doc.user_data["id"] = document.id
        store.add(doc)
    store.to_disk(path)


def _split(doc: Any, offsets: set[int]) -> None:
    """Split the tokens that hold one of the offsets inside."""
    with doc.retokenize() as retokenizer:
        for token in doc:
            start, end = token.idx, token.idx + len(token)
            cuts = [start, *sorted(o for o in offsets if start < o < end), end]
            if len(cuts) > 2:
                pieces = [doc.text[a:b] for a, b in pairwise(cuts)]
                retokenizer.split(token, pieces, heads=[(token, 0)] * len(pieces))
