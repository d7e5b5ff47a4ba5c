"""BioC, as XML and as JSON: documents of passages, passages of text and annotations.

Offsets count from the beginning of the document. An annotation with several locations is a
discontinuous entity; its label is its infon `type`, and its confidence, from 0 to 1, its infon
`confidence`. Relations and the other infons are passed over and counted. The XML names an external
DTD, which is not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

from constrained_ner.corpora.annotations import (
    Annotation,
    highest,
    probability,
    repairs_of,
    well_formed,
)
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import File, encodable
from constrained_ner.corpora.json_records import (
    expect_list,
    expect_object,
    expect_objects,
    expect_string,
)
from constrained_ner.corpora.passages import Piece, cover, document_of
from constrained_ner.corpora.xml import Node, subtrees
from constrained_ner.documents import Document, Entity, Passage
from constrained_ner.errors import InputError

Record = dict[str, Any]


def recognises_xml(file: File) -> bool:
    return file.suffix == ".xml" and "<collection" in file.head


def recognises_json(file: File) -> bool:
    head = file.head
    return file.suffix == ".json" and '"passages"' in head and '"infons"' in head


# ---- from the parsed record to the document -----------------------------------------------------


def _integer(value: object, what: str) -> int:
    """An integer of JSON, or digits, which XML has instead; 1.5 and true are refused."""
    if type(value) is int:
        return value
    try:
        return int(value if isinstance(value, str) else "")
    except ValueError:
        raise InputError(f"{what} is {value!r:.80}: expected an integer") from None


def _infon(record: Record, key: str) -> object:
    infons = record.get("infons")
    return infons.get(key) if isinstance(infons, dict) else None


def _type(record: Record) -> str:
    found = _infon(record, "type")
    return found if isinstance(found, str) else ""


def _confidence(record: Record) -> float | None:
    """That of an annotation: as text, as BioC has it, or as a number, which some JSON has."""
    return probability(str(_infon(record, "confidence")))


def _other_infons(record: object) -> int:
    infons = record.get("infons") if isinstance(record, dict) else None
    return len(infons.keys() - {"type"}) if isinstance(infons, dict) else 0


def _annotations(holder: Record) -> list[Any]:
    """What a document, a passage or a sentence has as its annotations, well-formed or not."""
    return expect_list(holder.get("annotations") or [], "the key 'annotations'")


def _annotation(value: object, place: str) -> Annotation:
    record = expect_object(value, "it")
    fragments = []
    for location in expect_objects(record.get("locations", []), "an annotation's locations"):
        start = _integer(location.get("offset"), "a location's offset")
        fragments.append((start, start + _integer(location.get("length"), "a location's length")))
    surface = record.get("text")
    line = record.get("line")
    return Annotation(
        place,
        line,
        _type(record),
        tuple(fragments),
        surface if isinstance(surface, str) else None,
        _confidence(record),
    )


def _document(record: Record, place: str, repairs: Counter[str]) -> Document:
    id = record.get("id")
    id = encodable(str(id) if type(id) is int else expect_string(id, "a document's id"))
    place_of = place if "line" in record else f"{place}: document {id}"
    passages: list[tuple[str, list[Piece]]] = []
    holders = [record]
    for passage in expect_objects(record.get("passages", []), "the passages"):
        sentences = expect_objects(passage.get("sentences") or [], "the sentences")
        holders += [passage, *sentences]
        # a passage has its text itself or in its sentences
        pieces = [
            (_integer(part.get("offset"), "a passage's offset"), _text(part))
            for part in ([passage] if passage.get("text") else sentences)
            if _text(part)
        ]
        passages.append((_type(passage), pieces))
    marked = [item for holder in holders for item in _annotations(holder)]
    annotations = well_formed(
        marked,
        lambda item: [_annotation(item, place_of)],
        lambda item: f"{place}:{item['line']}" if "line" in record else place_of,
    )
    others = sum(map(_other_infons, [*holders, *marked]))
    others -= sum(annotation.confidence is not None for annotation in annotations)
    repairs["infons other than the type, passed over"] += others
    relations = (expect_objects(h.get("relations") or [], "the relations") for h in holders)
    repairs["relations, passed over"] += sum(map(len, relations))
    return document_of(id, passages, annotations, place_of, repairs)


def _text(part: Record) -> str:
    return expect_string(part.get("text") or "", "a passage's text")


# ---- XML ----------------------------------------------------------------------------------------


def _record(node: Node) -> Record:
    """An element as the JSON form writes it, with its line."""
    record: Record = {"line": node.line}
    for name in ("id", "offset", "text"):
        found = node.child(name)
        if found is not None:
            record[name] = found.text
    record["infons"] = {
        infon.attributes.get("key", ""): infon.text for infon in node.children("infon")
    }
    for many, one in (
        ("passages", "passage"),
        ("sentences", "sentence"),
        ("annotations", "annotation"),
        ("relations", "relation"),
    ):
        record[many] = [_record(child) for child in node.children(one)]
    record["locations"] = [location.attributes for location in node.children("location")]
    return record


def read_xml(file: File) -> Iterator[Document | InputError]:
    """A document for each `<document>`, as a stream.

    An annotation that lies outside the text or does not match its own text is logged and skipped.
    """
    with repairs_of(file.place) as repairs:
        for node in subtrees(file, "document"):
            if isinstance(node, InputError):
                yield node
                continue
            try:
                yield _document(_record(node), file.place, repairs)
            except InputError as error:
                yield InputError(error.reason, file.place, node.line)


# ---- JSON ---------------------------------------------------------------------------------------


def read_json(file: File) -> Iterator[Document | InputError]:
    """The documents of a collection, of a list of documents, or one document.

    Raises
    ------
    InputError: the file cannot be read or is not JSON.
    """
    try:
        content = json.loads(file.text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", file.place) from None
    with repairs_of(file.place) as repairs:
        for number, record in enumerate(_documents(content, file.place), 1):
            try:
                yield _document(expect_object(record, "it"), file.place, repairs)
            except InputError as error:
                yield InputError(f"document {number}: {error.reason}", file.place)


def _documents(content: Any, place: object) -> Iterator[Any]:
    """The documents of a collection, or of a list of documents and collections."""
    documents = content
    if isinstance(content, dict):  # PubTator's own service calls the list by its name
        documents = content.get("documents", content.get("PubTator3", [content]))
    if not isinstance(documents, list):
        raise InputError(f"the documents are {documents!r:.80}: expected a list", str(place))
    for one in documents:
        if isinstance(one, dict) and isinstance(one.get("documents"), list):
            yield from one["documents"]  # as PubMed Central's service gives them
        else:
            yield one


# ---- writing ------------------------------------------------------------------------------------

SOURCE = "constrained_ner"


def _records(documents: Iterable[Document], losses: ConversionLosses) -> Iterator[Record]:
    for document in documents:
        passages = cover(document, losses) or [Passage("", 0, 0)]
        yield {
            "id": document.id,
            "infons": {},
            "passages": [_passage(document, *pair) for pair in _assigned(document, passages)],
            "annotations": [],
            "relations": [],
        }


def _assigned(
    document: Document, passages: list[Passage]
) -> Iterator[tuple[Passage, list[tuple[int, Entity]]]]:
    """Each passage with the entities that begin in it, and their numbers.

    The first passage also has the entities that begin before it.
    """
    starts = [passage.start for passage in passages]
    for index, passage in enumerate(passages):
        after = starts[index + 1] if index + 1 < len(starts) else len(document.text) + 1
        before = passage.start if index else 0
        numbered = enumerate(document.entities)
        yield passage, [(n, entity) for n, entity in numbered if before <= entity.start < after]


def _passage(document: Document, passage: Passage, entities: list[tuple[int, Entity]]) -> Record:
    return {
        "offset": passage.start,
        "infons": {"type": passage.type} if passage.type else {},
        "text": document.text[passage.start : passage.end],
        "sentences": [],
        "annotations": [
            {
                "id": str(number),
                "infons": {"type": entity.label} | _confidence_infon(document, entity),
                "text": entity.surface(document.text),
                "locations": [
                    {"offset": start, "length": end - start} for start, end in entity.fragments
                ],
            }
            for number, entity in entities
        ],
        "relations": [],
    }


def _confidence_infon(document: Document, entity: Entity) -> dict[str, str]:
    found = document.confidences.get(entity)
    return {} if found is None else {"confidence": str(found)}


def write_json(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """One collection, a document a line."""
    head = json.dumps({"source": SOURCE, "date": "", "key": "", "version": "1.0", "infons": {}})
    file.write(head[:-1] + ', "documents": [')
    for number, record in enumerate(_records(documents, losses)):
        file.write(",\n" if number else "\n")
        file.write(json.dumps(record, ensure_ascii=False))
    file.write("\n]}\n")


def write_xml(documents: Iterable[Document], file: TextIO, losses: ConversionLosses) -> None:
    """One collection. Characters that XML cannot hold are written as U+FFFD."""

    def element(tag: str, text: str) -> str:
        # a bare carriage return would be read back as a line feed
        return f"<{tag}>{escape(text, {chr(13): '&#13;'})}</{tag}>"

    def infons(record: Record) -> str:
        return "".join(
            f"<infon key={quoteattr(key)}>{escape(value, {chr(13): '&#13;'})}</infon>"
            for key, value in record["infons"].items()
        )

    file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    file.write('<!DOCTYPE collection SYSTEM "BioC.dtd">\n')
    file.write(f"<collection><source>{SOURCE}</source><date></date><key></key>\n")
    for document in documents:
        clean = partial(losses.for_xml, what="texts, labels or ids", document=document)
        entities = [Entity(clean(e.label), e.fragments) for e in document.entities]
        sure = map(document.confidences.get, document.entities)
        cleaned = Document(
            clean(document.id),
            clean(document.text),
            tuple(entities),
            tuple(Passage(clean(p.type), p.start, p.end) for p in document.passages),
            confidences=highest(zip(entities, sure, strict=True)),
        )
        (record,) = _records([cleaned], losses)
        file.write(f"<document>{element('id', record['id'])}\n")
        for passage in record["passages"]:
            file.write(f"<passage>{infons(passage)}{element('offset', str(passage['offset']))}")
            file.write(element("text", passage["text"]) + "\n")
            for annotation in passage["annotations"]:
                file.write(f'<annotation id="{annotation["id"]}">{infons(annotation)}')
                for location in annotation["locations"]:
                    offset, length = location["offset"], location["length"]
                    file.write(f'<location offset="{offset}" length="{length}"/>')
                file.write(element("text", annotation["text"]) + "</annotation>\n")
            file.write("</passage>\n")
        file.write("</document>\n")
    file.write("</collection>\n")
