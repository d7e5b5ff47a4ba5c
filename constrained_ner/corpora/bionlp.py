"""BioNLP shared tasks: `NAME.txt`, beside it `NAME.a1` and, where it is published, `NAME.a2`.

The rows are brat's. The `T` rows of both files are read: the entities that a task gives (`.a1`) and
what is to be found (`.a2`), where the triggers of events are `T` rows, too.

Source: Kim et al., Overview of BioNLP Shared Task 2011, and the page "File formats" of that task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from constrained_ner.corpora.annotations import UNANNOTATED, annotated, documents_of
from constrained_ner.corpora.brat import standoff, t_rows
from constrained_ner.corpora.files import File, FileSet
from constrained_ner.corpora.text import text_and_mark
from constrained_ner.documents import Document
from constrained_ner.errors import InputError

TEXT = ".txt"
ANNOTATIONS = (".a1", ".a2")


def recognises(file_set: FileSet) -> bool:
    groups = standoff(file_set, TEXT, *ANNOTATIONS).values()
    if file_set.is_file:
        return any(not group.keys().isdisjoint(ANNOTATIONS) for group in groups)
    return any(TEXT in group and len(group) > 1 for group in groups)


def read(file_set: FileSet) -> Iterator[Document | InputError]:
    """A folder (with its subfolders), an archive, or the files of one document.

    Ids, texts without annotations, broken files and annotations that do not fit are as in
    `brat.read`.

    Raises
    ------
    InputError: there is no `.txt`, `.a1` or `.a2`.
    """
    groups = standoff(file_set, TEXT, *ANNOTATIONS)
    if not groups:
        raise InputError("holds no .txt, .a1 or .a2 file", file_set.path)
    yield from documents_of(groups, _document, file_set.path)


def _document(id: str, group: dict[str, File], repairs: Counter[str]) -> Document:
    if TEXT not in group:
        raise InputError("there is no .txt file beside it", next(iter(group.values())).place)
    text, marked = text_and_mark(group[TEXT])
    repairs[UNANNOTATED] += group.keys().isdisjoint(ANNOTATIONS)
    rows = [row for s in ANNOTATIONS if s in group for row in t_rows(group[s], repairs)]
    return annotated(Document(id, text), rows, repairs, marked)
