"""GENIA 3.02, the original XML: sentences with nested `<cons>` elements.

Each sentence is a document `ARTICLE:N` (N from 1 in each article), in the order of the file. The
usual five labels are kept: `G#protein_*`, `G#DNA_*`, `G#RNA_*`, `G#cell_type` and `G#cell_line`.
Other classes, composite ones such as `(AND G#x G#x)`, and elements without a class are passed over
and counted.

Source: Kim et al., GENIA corpus: a semantically annotated corpus for bio-textmining, 2003.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from constrained_ner.corpora.annotations import repairs_of, stripped
from constrained_ner.corpora.files import File
from constrained_ner.corpora.xml import Node, subtrees
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError

_CLASS = re.compile(r"G#(protein|DNA|RNA)_[^ ()]+|G#(cell_type|cell_line)")


def recognises(file: File) -> bool:
    return file.suffix == ".xml" and "<article" in file.head and "<set" in file.head


def read(file: File) -> Iterator[Document | InputError]:
    """The sentences, as a stream of articles."""
    with repairs_of(file.place) as passed:
        for article in subtrees(file, "article"):
            if isinstance(article, InputError):
                yield article
            else:
                yield from _sentences(article, passed)


def _sentences(article: Node, passed: Counter[str]) -> Iterator[Document]:
    info = article.child("articleinfo")
    id = (info.text_of("bibliomisc") if info else "").strip() or f"line {article.line}"
    number = 0
    for part in article.content:
        if isinstance(part, Node) and part.tag in ("title", "abstract"):
            for sentence in part.children("sentence"):
                number += 1
                entities: list[Entity] = []
                text = _mentions(sentence, 0, entities, passed)
                kept = _stripped(entities, text)
                passed["annotations that say the same as another one"] += len(kept) - len(set(kept))
                yield Document(f"{id}:{number}", text, kept)


def _stripped(entities: list[Entity], text: str) -> tuple[Entity, ...]:
    pairs = ((entity, stripped(entity.fragments, text)) for entity in entities)
    return tuple(Entity(entity.label, fragments) for entity, fragments in pairs if fragments)


def _mentions(node: Node, start: int, found: list[Entity], passed: Counter[str]) -> str:
    """The text of an element that begins at `start`; its mentions are added to `found`."""
    text = ""
    for part in node.content:
        if isinstance(part, str):
            text += part
            continue
        begin = start + len(text)
        inner = _mentions(part, begin, found, passed)
        text += inner
        if part.tag != "cons":
            continue
        sem = part.attributes.get("sem", "")
        match = _CLASS.fullmatch(sem)
        if match and inner:
            found.append(Entity(match[1] or match[2], ((begin, begin + len(inner)),)))
        elif not sem:
            passed["<cons> without a class, passed over"] += 1
        elif sem.startswith("("):
            passed["<cons> with a composite class, passed over"] += 1
        else:
            passed["<cons> of other classes, passed over"] += 1
    return text
