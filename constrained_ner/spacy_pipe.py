"""A component of spaCy pipelines: `nlp.add_pipe("cner", config={"labels": [...]})`.

spaCy finds it by its entry point; nothing has to be imported. Every entity stands in
`doc._.cner_entities`, as `cner predict` writes it. Of those:

- the contiguous ones are `doc.spans["cner"]`, nested and crossing ones too, with their confidences
  in its attribute `scores` (as spaCy's `spancat` has them) and in `span._.cner_confidence`;
- of these `doc.ents` has the surest that do not overlap: of two that do, the one with the higher
  confidence, of equally sure ones the longer, then the first (spaCy's own `filter_spans` asks for
  the length only);
- `doc._.cner_discontinuous` are those of several fragments, which spaCy has no spans for;
- `doc._.cner_unaligned` are those that begin or end inside a token. As spans they take in the whole
  token (`alignment_mode: expand`), or what of it is inside them (`contract`), or there is no span
  of them (`strict`).

A part of a text that could not be asked about is in `doc._.cner_left_out`, and a warning. A
document that could not be answered at all is given to spaCy's error handler.

The settings, the labels and the model's name are checked when the component is added, and its
weights are loaded with the first document: tools of spaCy make pipelines only to look at them.
spaCy imports this module with each pipeline of whatever kind; so what loads models is imported
where it is used.
Components of the same model share its weights. A saved pipeline names the model, and has no copy.
"""

# No postponed annotations: spaCy checks a config against those of the factory.
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span, SpanGroup

from constrained_ner.adapters import DEFAULT_MODEL
from constrained_ner.documents import Document, Entity
from constrained_ner.errors import InputError, UnknownNameError
from constrained_ner.formats.grammar import Level
from constrained_ner.pipeline.manifest import load_manifest
from constrained_ner.pipeline.segments import SEGMENTS
from constrained_ner.pipeline.task import task_for

if TYPE_CHECKING:
    from constrained_ner.pipeline.extractor import Extractor
    from constrained_ner.pipeline.prediction import Prediction
    from constrained_ner.pipeline.predictor import Predictor

ALIGNMENTS = ("strict", "contract", "expand")

_EXTRACTORS: "WeakValueDictionary[tuple[object, ...], Extractor]" = WeakValueDictionary()


def _extractor(model: str, adapter: str | None, device: str, dtype: str) -> "Extractor":
    """The extractor of a model, which is loaded once as long as a component has it."""
    from constrained_ner.pipeline.extractor import Extractor

    key = model, adapter, device, dtype
    extractor = _EXTRACTORS.get(key)
    if extractor is None:
        extractor = _EXTRACTORS[key] = Extractor(model, adapter, device=device, dtype=dtype)
    return extractor


@Language.factory(
    "cner",
    assigns=[
        *("doc.ents", "doc.spans", "doc._.cner_entities", "doc._.cner_discontinuous"),
        *("doc._.cner_unaligned", "doc._.cner_left_out", "span._.cner_confidence"),
    ],
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0},
)
class ConstrainedNer(Pipe):
    """Extracts the entities of documents.

    Parameters
    ----------
    nlp: the pipeline, which spaCy gives to every factory; nothing of it is needed.
    model, adapter, device, dtype: see `Extractor`.
    labels, format, options, dataset, combine: see `task_for`.
    level, segment, min_confidence, precision, consistent: see `Predictor`.
    batch_size: how many answers are generated at the same time.
    spans_key: the span group of `doc.spans`.
    alignment_mode: of entities that begin or end inside a token: see above.
    set_ents: whether `doc.ents` is set, too. Entities that it has already stay, and ours are only
        added beside them; with `overwrite_ents`, those that overlap with ours go.

    Raises
    ------
    ModelError, LabelError, UnknownNameError: the model cannot be found; a label cannot be asked
        for; there is no such format, level, option, segment or alignment.
    """

    def __init__(
        self,
        nlp: Language,
        name: str = "cner",
        model: str = DEFAULT_MODEL,
        adapter: str | None = None,
        *,
        labels: list[str] | str | None = None,
        format: str | None = None,
        level: str = "faithful",
        options: dict[str, Any] | None = None,
        dataset: str | None = None,
        segment: str = "sentence",
        min_confidence: float | None = None,
        precision: float | None = None,
        consistent: bool = False,
        combine: str = "agreement",
        batch_size: int = 8,
        device: str = "auto",
        dtype: str = "auto",
        spans_key: str = "cner",
        alignment_mode: str = "expand",
        set_ents: bool = True,
        overwrite_ents: bool = False,
    ):
        from constrained_ner.engines.models import load_tokens

        self.name = name
        self.spans_key, self.alignment_mode = spans_key, alignment_mode
        self.set_ents, self.overwrite_ents = set_ents, overwrite_ents
        self.scorer = get_ner_prf
        for what, value, known in (
            ("segment", segment, SEGMENTS),
            ("alignment_mode", alignment_mode, ALIGNMENTS),
        ):
            if value not in known:
                raise UnknownNameError(
                    f"unknown {what} {value!r}: expected one of {', '.join(known)}"
                )
        if min_confidence is not None and precision is not None:
            raise InputError("min_confidence and precision exclude each other")
        load_tokens(model)
        manifest = load_manifest(adapter or model)
        self._task = task_for(manifest, labels, format, dataset, options, combine)
        self._level = Level.parse(level)
        if precision is not None:
            self._task.check_precision(self._level, precision)
        self._loading = model, adapter, device, dtype
        together = len(self._task.formats) > 1 and not self._task.agreement.vote
        if self._level == Level.FREE and (
            min_confidence or precision is not None or consistent or together
        ):
            raise InputError(
                "min_confidence, precision, consistent and several formats that agree need "
                "confidences, which free answers have not: expected the level syntax or faithful"
            )
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: expected 1 or more")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise InputError(f"min_confidence is {min_confidence}: expected 0 to 1")
        self._asking = {
            "segment": segment,
            "min_confidence": min_confidence,
            "precision": precision,
            "consistent": consistent,
            "batch_size": batch_size,
        }
        for note in self._task.notes:
            warnings.warn(note, stacklevel=2)

    @property
    def labels(self) -> tuple[str, ...]:
        """Those that are asked for."""
        return tuple(label for target in self._task.targets for label in target.labels)

    @cached_property
    def extractor(self) -> "Extractor":
        """The model; it is loaded when it is asked for first."""
        return _extractor(*self._loading)

    @cached_property
    def predictor(self) -> "Predictor":
        """What answers."""
        return self.extractor.answering(self._task, self._level, **self._asking)

    def __call__(self, doc: Doc) -> Doc:
        """The same document, with its entities.

        Raises
        ------
        InputError: it cannot be answered.
        """
        (prediction,) = self.predictor.predict([_document(doc)])
        self._add(doc, prediction)
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """The same documents in the same order, each as soon as it is done.

        The questions about several documents are answered side by side. One that cannot be
        answered goes to the error handler, and is not yielded if that does not raise.

        Parameters
        ----------
        batch_size: spaCy's, of documents; not needed here, since documents are read as there is
            room for their questions.
        """
        under_way: deque[Doc] = deque()

        def documents() -> Iterator[Document | InputError]:
            for doc in stream:
                under_way.append(doc)
                yield _document(doc)

        handle = self.get_error_handler()
        for prediction in self.predictor.predict(documents()):
            doc = under_way.popleft()
            try:
                self._add(doc, prediction)
            except InputError as error:
                handle(self.name, self, [doc], error)
            else:
                yield doc

    def _add(self, doc: Doc, prediction: "Prediction") -> None:
        """Put what was found into a document."""
        if prediction.error is not None and doc.text.strip():
            raise InputError(prediction.error)
        sure = prediction.confidences
        for (start, end), reason in prediction.left_out:
            warnings.warn(f"{self.name}: {start}-{end} left out: {reason}", stacklevel=2)
        found: dict[Span, float] = {}
        for entity in prediction.entities:
            span = self._span(doc, entity)
            if span is not None:
                found[span] = max(sure.get(entity, 0.0), found.get(span, 0.0))
        own = {
            "entities": [
                {**one, "fragments": tuple(one["fragments"])}
                for one in prediction.to_record()["entities"]
            ],
            "left_out": [(*span, reason) for span, reason in prediction.left_out],
            "scores": [(*_key(span), score) for span, score in found.items() if sure],
        }
        doc._.cner_by_component = {**doc._.cner_by_component, self.name: own}
        attributes = {"scores": list(found.values())} if sure else {}
        doc.spans[self.spans_key] = SpanGroup(
            doc, name=self.spans_key, attrs=attributes, spans=list(found)
        )
        if self.set_ents:
            chosen = surest(found, () if self.overwrite_ents else doc.ents)
            ours = {token for span in chosen for token in range(span.start, span.end)}
            before = [e for e in doc.ents if ours.isdisjoint(range(e.start, e.end))]
            gone = [e for e in doc.ents if e not in before]
            rest = {t for e in gone for t in range(e.start, e.end)} - ours
            outside = [doc[token : token + 1] for token in sorted(rest)]
            doc.set_ents([*before, *chosen], outside=outside, default="unmodified")

    def _span(self, doc: Doc, entity: Entity) -> Span | None:
        if entity.discontinuous:
            return None
        return doc.char_span(
            entity.start, entity.end, label=entity.label, alignment_mode=self.alignment_mode
        )


def surest(scores: dict[Span, float], taken: Iterable[Span] = ()) -> list[Span]:
    """The spans that are surest and overlap neither with one another nor with those of `taken`."""
    tokens = {token for span in taken for token in range(span.start, span.end)}
    chosen = []
    for span in sorted(scores, key=lambda s: (-scores[s], s.start - s.end, s.start)):
        if tokens.isdisjoint(range(span.start, span.end)):
            chosen.append(span)
            tokens.update(range(span.start, span.end))
    return chosen


def _document(doc: Doc) -> Document | InputError:
    try:
        return Document(doc.text[:30], doc.text)  # its beginning names it in messages
    except InputError as error:
        return error


# ---- what documents and spans have --------------------------------------------------------------


def _of_all_components(doc: Doc, what: str) -> tuple[Any, ...]:
    return tuple(one for own in doc._.cner_by_component.values() for one in own[what])


def _discontinuous(doc: Doc) -> list[dict[str, Any]]:
    return [record for record in doc._.cner_entities if len(record["fragments"]) > 1]


def _unaligned(doc: Doc) -> list[dict[str, Any]]:
    return [
        record
        for record in doc._.cner_entities
        if len(record["fragments"]) == 1 and doc.char_span(*record["fragments"][0]) is None
    ]


def _confidence(span: Span) -> float | None:
    """That of the entity with its place and label; None where none was found or recorded."""
    # Not from the group, which somebody may have taken spans out of.
    scores = _of_all_components(span.doc, "scores")
    return next((float(score) for *key, score in scores if tuple(key) == _key(span)), None)


def _key(span: Span) -> tuple[int, int, str]:
    return span.start_char, span.end_char, span.label_


# By the name of a component what it found, so that another pass replaces that.
Doc.set_extension("cner_by_component", default={}, force=True)
Doc.set_extension("cner_entities", getter=partial(_of_all_components, what="entities"), force=True)
Doc.set_extension("cner_left_out", getter=partial(_of_all_components, what="left_out"), force=True)
Doc.set_extension("cner_discontinuous", getter=_discontinuous, force=True)
Doc.set_extension("cner_unaligned", getter=_unaligned, force=True)
Span.set_extension("cner_confidence", getter=_confidence, force=True)
