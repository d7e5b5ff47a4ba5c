"""Knowtator XML (CRAFT, eHOST): texts, and `NAME.txt.knowtator.xml` with the annotations of each.

The two may lie in different folders: a file of annotations names its text, or else is named after
it. Where several files annotate one text (CRAFT has a folder for each ontology), its document has
the mentions of all. A mention's label is the id of its class; one of several spans is
discontinuous. Slots (attributes and relations) are passed over and counted.

Source: Ogren, Knowtator: a Protege plug-in for annotated corpus construction, 2006.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import unescape

from constrained_ner.corpora.annotations import UNANNOTATED, Annotation, annotated, documents_of
from constrained_ner.corpora.files import File, FileSet
from constrained_ner.corpora.text import text_and_mark
from constrained_ner.corpora.xml import Node, subtrees
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

SUFFIX = ".knowtator.xml"
_TEXT_NAME = re.compile(
    r"""<annotations\b[^>]*\btextSource\s*=\s*(?:"(?P<name>[^"<]+)"|'(?P<quoted>[^'<]+)')"""
)
_OWN_SUFFIXES = re.compile(r"(\.knowtator)?\.xml(\.gz)?$", re.IGNORECASE)
_PACKED = re.compile(r"\.gz$", re.IGNORECASE)
_OFFSET = re.compile(r"[0-9]{1,18}")


# ---- finding the files --------------------------------------------------------------------------


def _is_of_annotations(file: File) -> bool:
    if file.suffix != ".xml" or "<annotations" not in file.head:
        return False
    return file.name.lower().endswith(SUFFIX) or "<spannedText" in file.head


def _annotation_files(file_set: FileSet) -> list[File]:
    files = [file for file in file_set.files.values() if _is_of_annotations(file)]
    if file_set.is_file and not files:  # a text, with its annotations beside it
        beside = file_set.find(f"{file_set.path.name}{SUFFIX}")
        return [beside] if beside else []
    return files


def _text_name(file: File) -> str:
    """The file name of the text that a file annotates."""
    named = _TEXT_NAME.search(file.head)
    if named:
        name = unescape(named["name"] or named["quoted"])
        return name.replace("\\", "/").rsplit("/", 1)[-1]
    return _OWN_SUFFIXES.sub("", file.path.name)


def _texts(file_set: FileSet) -> dict[str, list[File]]:
    """By file name, that of a packed one without `.gz`."""
    texts: dict[str, list[File]] = {}
    for file in {**file_set.beside, **file_set.files}.values():
        if file.suffix != ".xml":
            texts.setdefault(_unpacked(file), []).append(file)
    return texts


def _unpacked(file: File) -> str:
    return _PACKED.sub("", file.path.name)


def recognises(file_set: FileSet) -> bool:
    return bool(_annotation_files(file_set))


# ---- reading ------------------------------------------------------------------------------------


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A document for each text, its id the path of the text without suffix.

    A `.txt` that no file annotates is one without entities. A text that is not there, or is there
    twice, and a broken file of annotations are an `InputError`. An annotation that is malformed,
    lies outside the text or does not match its surface is logged and skipped.

    Raises
    ------
    InputError: there is no file of annotations.
    """
    by_text: dict[str, list[File]] = {}
    for file in _annotation_files(file_set):
        by_text.setdefault(_text_name(file), []).append(file)
    if not by_text:
        raise InputError(f"holds no *{SUFFIX} file", file_set.path)
    texts = _texts(file_set)
    groups = {name: (texts.get(name, []), files) for name, files in by_text.items()}
    groups |= {
        file.name: ([file], [])
        for file in file_set.files.values()
        if file.suffix == ".txt" and _unpacked(file) not in by_text
    }

    def document(
        name: str, group: tuple[list[File], list[File]], repairs: Counter[str]
    ) -> Document:
        found, files = group
        repairs[UNANNOTATED] += not files
        text = _only(name, found, files[0]) if files else found[0]
        return _document(text, files, repairs)

    yield from documents_of(groups, document, file_set.path)


def _only(name: str, texts: list[File], annotations: File) -> File:
    if len(texts) == 1:
        return texts[0]
    found = ", ".join(text.name for text in texts)
    problem = f"is there several times: {found}" if texts else "is missing"
    raise InputError(f"its text {name!r} {problem}", annotations.place)


def _document(text_file: File, files: list[File], repairs: Counter[str]) -> Document:
    text, marked = text_and_mark(text_file)
    annotations = [one for file in files for one in _annotations(file, repairs)]
    return annotated(Document(text_file.id, text), annotations, repairs, marked)


def _annotations(file: File, repairs: Counter[str]) -> Iterator[Annotation]:
    for root in subtrees(file, "annotations"):
        if isinstance(root, InputError):
            raise root
        classes = root.children("classMention")
        labels = {mention.attributes.get("id"): _class(mention) for mention in classes}
        for node in root.children("annotation"):
            mention = node.child("mention")
            label = labels.get(mention.attributes.get("id")) if mention else None
            surface = node.text_of("spannedText") or None
            yield Annotation(file.place, node.line, label or "", _fragments(node), surface)
        repairs["slots (attributes and relations), passed over"] += sum(
            isinstance(part, Node) and part.tag.endswith("SlotMention") for part in root.content
        )


def _class(mention: Node) -> str:
    found = mention.child("mentionClass")
    return found.attributes.get("id", "") if found else ""


def _fragments(annotation: Node) -> tuple[tuple[int, int], ...]:
    """The spans; none where one is malformed, so that the annotation is skipped."""
    spans = [
        (span.attributes.get("start", ""), span.attributes.get("end", ""))
        for span in annotation.children("span")
    ]
    if not all(_OFFSET.fullmatch(offset) for span in spans for offset in span):
        return ()
    return tuple((int(start), int(end)) for start, end in spans)
