"""UIMA CAS, as INCEpTION has it: XMI with its `TypeSystem.xml`, and JSON (extra `inception`).

A folder or an archive of such files, as INCEpTION exports documents; or one of them. Or what it
exports of a project, where each user's files lie in `annotation/DOCUMENT` or, put together, in
`curation/DOCUMENT`: curated ones are taken or, without one, those of the first user by name. A
document that nobody has annotated is read as it was imported; a warning says how many there are.

Files are read and written by dkpro-cassis, which counts characters where UIMA counts UTF-16 units;
before, XMI is seen to declare no entities.

Entities are the spans of the layer *Named entity*, their label its `value`, and those of custom
span layers, their label the feature `value` or `label`, else the only feature of strings, else the
layer's name. Other layers, relations and chains are passed over and counted. Without a type system
that of DKPro Core is taken, which has no custom layers.

Written is one XMI for each document, with the sentences and tokens that INCEpTION wants, cut so
that each entity begins and ends with a token and lies in one sentence.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from constrained_ner.corpora import brat
from constrained_ner.corpora.annotations import Annotation, checked, documents_of
from constrained_ner.corpora.conversion_losses import ConversionLosses
from constrained_ner.corpora.files import LOGGER, File, FileSet, encodable, members_of
from constrained_ner.corpora.offsets import StandoffText
from constrained_ner.corpora.xml import refuse_entities
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError, reason_of, require
from constrained_ner.words import Span, tokens_cut_at, trimmed

TYPES, PROJECT = "TypeSystem.xml", "exportedproject.json"
# In a project's archive, what a user has done; and what is there before anybody has done anything.
_OF_USER = re.compile(
    r"(?:.*/)?(?P<kind>annotation|curation)/(?P<document>[^/]+)/(?P<user>[^/]+?)(?:\.\w+)?(?:/|$)"
)
_NOBODY = "INITIAL_CAS"
_DKPRO = "de.tudarmstadt.ukp.dkpro.core.api."
NAMED_ENTITY = f"{_DKPRO}ner.type.NamedEntity"
SENTENCE, TOKEN = f"{_DKPRO}segmentation.type.Sentence", f"{_DKPRO}segmentation.type.Token"
# Of the layers that are no custom ones.
_BUILT_IN = ("uima.", "de.tudarmstadt.ukp.", "org.dkpro.core.")
# What a CAS always has, or has of its text and not of its annotators.
_NO_LAYER = ("uima.", f"{_DKPRO}segmentation.", f"{_DKPRO}metadata.")
# What relations and chains have, and spans have not.
_NO_SPAN = {"Governor", "Dependent", "next", "first"}
_STRING = "uima.cas.String"
# What a CAS that is not as it should be makes of cassis.
_CANNOT_READ = (
    *(AttributeError, IndexError, KeyError, RecursionError, RuntimeError, SyntaxError),
    *(TypeError, ValueError),
)


def check_installed() -> None:
    """Raises `MissingExtraError` without dkpro-cassis."""
    require("cassis", "UIMA CAS", "inception")


# ---- reading ------------------------------------------------------------------------------------


def recognises(file_set: FileSet) -> bool:
    return _is_project(file_set) or any(map(_is_cas, file_set.files.values()))


def _is_project(file_set: FileSet) -> bool:
    return any(file.path.name == PROJECT for file in file_set.files.values())


def _is_cas(file: File) -> bool:
    if file.suffix == ".json":
        return any(key in file.head for key in ('"%TYPES"', '"%FEATURE_STRUCTURES"'))
    return file.suffix == ".xmi"


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A document for each CAS, sorted by id, which is the file's path without suffix.

    A span that lies outside the text or has no label is logged and skipped.

    Raises
    ------
    InputError: there is no CAS.
    MissingExtraError: dkpro-cassis is not installed.
    """
    check_installed()
    unpacked, errors = _unpacked(file_set) if _is_project(file_set) else (file_set, [])
    found = [file for file in unpacked.files.values() if _is_cas(file)]
    files = _of_users(found) if _is_project(file_set) else _by_id(found)
    if not files and not errors:
        raise InputError("holds no .xmi, and no .json of UIMA", file_set.path)
    yield from errors
    types: dict[File | None, Any] = {}

    def make(id: str, file: File, repairs: Counter[str]) -> Document:
        return _document(id, file, _types_of(file, unpacked, types), repairs)

    yield from documents_of(files, make, file_set.path)


def _by_id(files: Iterable[File]) -> dict[str, File]:
    found: dict[str, File] = {}
    for file in files:
        if found.setdefault(file.id, file) is not file:
            LOGGER.warning("%s: passed over: %s has its id", file.place, found[file.id].place)
    return found


def _unpacked(file_set: FileSet) -> tuple[FileSet, list[InputError]]:
    """With the files of the archives that a project has for each user's work on a document."""
    files, errors = dict(file_set.files), []
    for file in file_set.files.values():
        if file.suffix == ".zip" and _OF_USER.match(file.name):
            try:
                files.update({member.name: member for member in members_of(file)})
            except InputError as error:
                errors.append(error)
    return FileSet(file_set.path, files, file_set.beside), errors


def _of_users(files: Iterable[File]) -> dict[str, File]:
    """By document of a project: what was curated, else the file of the first user or of nobody."""
    found: dict[str, list[tuple[bool, bool, str, File]]] = {}
    for file in files:
        if match := _OF_USER.match(file.name):
            user = match["user"]
            place = (user.startswith(_NOBODY), match["kind"] != "curation", user, file)
            found.setdefault(encodable(match["document"]), []).append(place)
    taken = {id: min(places, key=lambda place: place[:3]) for id, places in found.items()}
    further = sum(not of_nobody for places in found.values() for of_nobody, *_ in places)
    further -= sum(not of_nobody for of_nobody, *_ in taken.values())
    if further:
        LOGGER.info("%d annotations of a document by further users, left out", further)
    if untouched := sum(of_nobody for of_nobody, *_ in taken.values()):
        said = "%d documents that nobody has annotated, read as they were imported"
        LOGGER.warning(said, untouched)
    return {id: file for id, (*_, file) in taken.items()}


def _types_of(file: File, file_set: FileSet, known: dict[File | None, Any]) -> Any:
    """The type system of the nearest folder that has one, else that of DKPro Core."""
    from cassis import load_dkpro_core_typesystem, load_typesystem

    names = (str(folder / TYPES) for folder in file.path.parents)
    found = next(filter(None, map(file_set.find, names)), None)
    if found in known:
        return known[found]
    if found is None:
        known[None] = load_dkpro_core_typesystem()
    else:
        refuse_entities(found)
        known[found], _ = _loaded(found, partial(load_typesystem, BytesIO(found.read())))
    return known[found]


def _loaded(file: File, load: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What cassis makes of a file, and its warnings."""
    from cassis.typesystem import TypeNotFoundError

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return load(), [str(warning.message) for warning in said]
        except (*_CANNOT_READ, TypeNotFoundError) as error:
            reason = reason_of(error, kind=True)
            raise InputError(f"not a UIMA CAS: {reason}", file.place) from None


def _document(id: str, file: File, types: Any, repairs: Counter[str]) -> Document:
    from cassis import load_cas_from_json, load_cas_from_xmi

    if file.suffix == ".json":
        cas, said = _loaded(file, partial(load_cas_from_json, file.text()))
    else:
        refuse_entities(file)
        data = BytesIO(file.read())
        cas, said = _loaded(file, partial(load_cas_from_xmi, data, typesystem=types, lenient=True))
    unmapped = [message for message in said if message.startswith("Not mapping")]
    if unmapped:
        raise InputError(f"an offset lies outside the text: {unmapped[0]}", file.place)
    repairs["annotations of types that the type system has not, passed over"] += len(said)
    if not cas.sofa_string:
        raise InputError("it has no text", file.place)
    if not isinstance(cas.sofa_string, str):
        raise InputError(f"its text is {cas.sofa_string!r:.80}: expected a string", file.place)
    document = Document(id, cas.sofa_string)
    annotations, _ = _loaded(file, lambda: list(_annotations(cas, file, repairs)))
    return checked(document, annotations, StandoffText(document.text), repairs)


def _annotations(cas: Any, file: File, repairs: Counter[str]) -> Iterator[Annotation]:
    types = cas.typesystem
    known = types.contains_type(NAMED_ENTITY)
    for found in cas.select_all_annotations():
        is_entity = known and types.is_instance_of(found.type.name, NAMED_ENTITY)
        features = {feature.name: feature.rangeType.name for feature in found.type.all_features}
        built_in = found.type.name.startswith(_BUILT_IN)
        if not is_entity and (built_in or _NO_SPAN & features.keys()):
            repairs["annotations of other layers, passed over"] += not (
                found.type.name.startswith(_NO_LAYER)
            )
            continue
        repairs["concept identifiers, passed over"] += bool(getattr(found, "identifier", None))
        if not type(found.begin) is type(found.end) is int:
            repairs["annotations without offsets, passed over"] += 1
            continue
        label = _label(found, features, is_entity)
        yield Annotation(file.place, None, label, ((found.begin, found.end),))


def _label(found: Any, features: dict[str, str], is_entity: bool) -> str:
    layer = str(found.type.name).rpartition(".")[2]
    if is_entity:  # some types are kinds of named entities, such as `Person`
        value = found.value if "value" in features else None
        return str(value or ("" if found.type.name == NAMED_ENTITY else layer))
    strings = [name for name, range in features.items() if range == _STRING]
    named = [name for name in ("value", "label") if name in strings]
    if named or len(strings) == 1:
        return str(getattr(found, (named or strings)[0]) or "")
    return layer


# ---- writing ------------------------------------------------------------------------------------


def write(documents: Iterable[Document], folder: Path, losses: ConversionLosses) -> None:
    """A new folder of XMI files, and their type system.

    Characters that XML cannot hold are written as U+FFFD.
    """
    from cassis import load_dkpro_core_typesystem

    types = load_dkpro_core_typesystem()
    types.to_xml(folder / TYPES)
    for document, path in brat.placed(documents, folder, losses):
        cas = _cas(document, types, losses)
        cas.to_xmi(path.with_name(path.name + ".xmi"))


def _cas(document: Document, types: Any, losses: ConversionLosses) -> Any:
    from cassis import Cas

    clean = partial(losses.for_xml, what="texts or labels", document=document)
    entities = losses.contiguous(document)
    text = clean(document.text)
    cas = Cas(typesystem=types)
    cas.sofa_string, cas.sofa_mime = text, "text/plain"
    spans: list[tuple[str, Span, dict[str, str]]] = [
        *((SENTENCE, span, {}) for span in _sentences(text, entities)),
        *((TOKEN, span, {}) for span in tokens_cut_at(text, ((e.start, e.end) for e in entities))),
        *((NAMED_ENTITY, (e.start, e.end), {"value": clean(e.label)}) for e in entities),
    ]
    for layer, (begin, end), features in spans:
        cas.add(types.get_type(layer)(begin=begin, end=end, **features))
    return cas


def _sentences(text: str, entities: Iterable[Entity]) -> Iterator[Span]:
    """Sentences of lines, without white space at their edges; no entity lies in two of them."""
    from sentencex import get_sentence_boundaries

    # It fails on some white space of other kinds.
    plain = re.sub(r"[^\S\n]", " ", text)
    cuts = {found["start_index"] for found in get_sentence_boundaries("en", plain)}
    cuts |= {at + 1 for at, character in enumerate(text) if character == "\n"}
    for entity in entities:
        cuts -= set(range(entity.start + 1, entity.end))
    for start, end in pairwise(sorted(cuts | {0, len(text)})):
        if span := trimmed(text, start, end):
            yield span
