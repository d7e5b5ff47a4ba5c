"""What is lost where documents are written, since the format cannot hold it: counted and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace

from constrained_ner.corpora.json_records import json_value
from constrained_ner.corpora.xml import without_forbidden
from constrained_ner.documents import Document, Entity
from constrained_ner.words import one_line


@dataclass
class ConversionLosses:
    """Counts by kind, and the first case of each.

    Attributes
    ----------
    documents, entities: how many were given.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    documents: int = 0
    entities: int = 0

    def add(self, kind: str, document: Document, detail: str = "") -> None:
        self.counts[kind] += 1
        self.first.setdefault(kind, f"document {document.id!r}{': ' if detail else ''}{detail}")

    def drop(self, kind: str, document: Document, entity: Entity) -> None:
        self.add(f"{kind}, left out", document, entity.describe(document.text))

    def counting(self, documents: Iterable[Document], holds: Container[str]) -> Iterator[Document]:
        """The documents, counted on their way, with what was not read of their records.

        Parameters
        ----------
        holds: `confidences`, `sections`, `meta`, where the format has a place for them; else they
            are lost.
        """
        for document in documents:
            for what in document.unread:
                self.add(what, document)
            if "meta" in holds:
                document = self._with_json_meta(document)
            for key in () if "meta" in holds else document.meta:
                self.add(f"values of the key {key!r}", document)
            for kind in ("confidences", "sections"):
                for entity in () if kind in holds else document.entities:
                    if entity in getattr(document, kind):
                        self.add(kind, document, entity.describe(document.text))
            self.documents += 1
            self.entities += len(document.entities)
            yield document

    def _with_json_meta(self, document: Document) -> Document:
        meta, given = json_value(document.meta), dict(document.meta)
        if meta == given:
            return document
        self.add("values that JSON does not have, such as infinity, written otherwise", document)
        return replace(document, meta=meta)

    def merge(self, other: ConversionLosses) -> None:
        """Count what was lost elsewhere, too."""
        self.counts += other.counts
        self.first = other.first | self.first
        self.documents += other.documents
        self.entities += other.entities

    def lines(self) -> list[str]:
        return [
            f"{count} {kind} (the first: {self.first[kind]})"
            for kind, count in sorted(self.counts.items())
        ]

    # ---- what several formats cannot hold

    def contiguous(self, document: Document) -> list[Entity]:
        """The entities of one fragment."""
        kept = []
        for entity in document.entities:
            if entity.discontinuous:
                self.drop("discontinuous mentions", document, entity)
            else:
                kept.append(entity)
        return kept

    def passages(self, document: Document) -> None:
        if document.passages:
            self.add("documents whose passages are not kept", document)

    def one_line(self, text: str, what: str, document: Document) -> str:
        """`text` with line breaks and TABs as spaces: offsets hold."""
        written = one_line(text).replace("\t", " ")
        if written != text:
            self.add(f"{what} with line breaks or TABs, written as spaces", document)
        return written

    def for_xml(self, text: str, what: str, document: Document) -> str:
        """`text` as XML can hold it: offsets hold."""
        written = without_forbidden(text)
        if written != text:
            self.add(f"{what} with characters that XML cannot hold", document)
        return written


class Names:
    """Labels or ids as a format can write them, each a name of its own.

    Where two would be written alike, the later one gets `~2`, `~3` and so on.

    Parameters
    ----------
    of_files: they become names of files, of which some systems take two for one that differ in
        case only.
    """

    def __init__(self, what: str, losses: ConversionLosses, *, of_files: bool = False):
        self.what, self.losses = what, losses
        self._key: Callable[[str], str] = str.casefold if of_files else str
        self.written: dict[str, str] = {}
        self.used: Counter[str] = Counter()

    def name(self, original: str, allowed: str, document: Document) -> str:
        """`allowed`, or a variant of it if another name is written so already."""
        if original not in self.written:
            self.written[original] = self.fresh(original, allowed, document)
        return self.written[original]

    def fresh(self, original: str, allowed: str, document: Document) -> str:
        """A name not used yet, also where `original` comes again."""
        name, first = allowed, self._key(allowed)
        while self._key(name) in self.used:
            self.used[first] += 1
            name = f"{allowed}~{self.used[first]}"
        self.used[self._key(name)] += 1
        if name != original:
            detail = f"{original!r} is written {name!r}"
            self.losses.add(f"{self.what} written otherwise", document, detail)
        return name
