"""The training loop: transformers' `Trainer`, with the score that is used: F1 of generated answers.

A run's folder holds `checkpoints/`, the log `log.jsonl`, and in the end the model as `cner predict
--model` takes it. A run that was stopped goes on from its last whole checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerState
from transformers.trainer_pt_utils import get_length_grouped_indices

from constrained_ner.corpora import read
from constrained_ner.corpora.files import sha256_of
from constrained_ner.documents import Document
from constrained_ner.errors import InputError, TrainingError
from constrained_ner.formats import Options as FormatOptions
from constrained_ner.formats import get_format
from constrained_ner.grammar import Level
from constrained_ner.labels import check_labels
from constrained_ner.metrics import Counts, strict
from constrained_ner.models import LanguageModel, load_model, wrap
from constrained_ner.predict import Predictor

from .examples import Example, Question, make_example
from .recipe import Data, Recipe
from .sampling import Corpus, draw, sampling_of

IGNORED = -100  # the label that torch's cross entropy passes over
MARK = "complete"  # stands in a checkpoint once it is whole
STATE = "trainer_state.json"  # transformers' name for it
RUN = "run.json"  # what is trained on what: a run is not gone on with by another recipe


# ---- data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Documents of one corpus and what of them could not be read."""

    corpus: Corpus
    broken: tuple[InputError, ...]


def load_corpus(data: Data, path: Path, of: Corpus | None = None) -> Split:
    """The documents of a file with the labels that the recipe asks for.

    Parameters
    ----------
    of: the corpus as its training file gives it, for the other splits.

    Raises
    ------
    InputError: the file has no document; or, of a training file, no document has an entity, or a
        label of the recipe occurs nowhere, or guidelines are given for one that is not asked for.
    """
    records = list(read(path))
    documents = tuple(r for r in records if isinstance(r, Document) and r.text.strip())
    broken = tuple(r for r in records if isinstance(r, InputError))
    if not documents:
        raise InputError("holds no document: expected annotated documents", path)
    if of is not None:
        return Split(replace(of, documents=documents), broken)
    known = sorted({entity.label for document in documents for entity in document.entities})
    if not known:
        raise InputError("no document has an entity: expected annotated documents", path)
    for label in data.labels:
        if label not in known:
            there = ", ".join(known)
            raise InputError(f"the label {label!r} occurs nowhere: there are {there}", path)
    labels = check_labels(data.labels or known)
    for label in data.guidelines:
        if label not in labels:
            there = ", ".join(labels)
            raise InputError(f"data.guidelines: no label {label!r}: there are {there}", path)
    name = data.name or path.stem
    return Split(Corpus(name, documents, labels, data.guideline, data.guidelines), broken)


@dataclass(frozen=True)
class Drawn:
    """What a run trains on and is evaluated on."""

    train: list[Example]
    dev: list[Question]
    corpora: tuple[Corpus, ...]
    broken: tuple[InputError, ...]
    options: FormatOptions


def draw_examples(
    recipe: Recipe, model: LanguageModel, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> Drawn:
    """Draw and build all examples, so that what is wrong with one ends a run before it begins.

    Those of the dev and test splits are built, too, though they are not trained on.

    Raises
    ------
    InputError: see `load_corpus`; or two corpora have one name. TrainingError: see `make_example`.
    """
    splits = [load_corpus(data, data.train) for data in recipe.data]
    names = [split.corpus.name for split in splits]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"data.name: two corpora are called {name!r}: give each its own")
    most = recipe.examples.max_fragments or max(
        len(entity.fragments) for s in splits for d in s.corpus.documents for entity in d.entities
    )
    options = FormatOptions(max_fragments=min(8, most))
    broken: list[InputError] = []
    train: list[Question] = []
    dev: list[Question] = []
    test: list[Question] = []
    for data, split in zip(recipe.data, splits, strict=True):
        for name, questions in (("train", train), ("dev", dev), ("test", test)):
            path = getattr(data, name)
            if path is not None:
                held = split if name == "train" else load_corpus(data, path, split.corpus)
                broken += held.broken
                sampling = sampling_of(recipe.examples, recipe.formats, options, name)
                questions += draw(held.corpus, name, recipe.seed, sampling)
    built = [make_example(question, model) for question in progress([*train, *dev, *test])]
    return Drawn(built[: len(train)], dev, tuple(s.corpus for s in splits), tuple(broken), options)


def collate(items: Sequence[dict[str, list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """A batch, padded on the right: ids, attention mask and labels, each [batch, longest].

    `logits_to_keep` are the places of the logits, `shift_labels` [batch, places] the tokens that
    they should give.
    """
    longest = max(len(item["input_ids"]) for item in items)
    ids = torch.full((len(items), longest), pad)
    labels = torch.full((len(items), longest), IGNORED)
    mask = torch.zeros((len(items), longest), dtype=torch.long)
    for row, item in enumerate(items):
        length = len(item["input_ids"])
        ids[row, :length] = torch.tensor(item["input_ids"])
        labels[row, :length] = torch.tensor(item["labels"])
        mask[row, :length] = 1
    # Logits are needed only where the next token is learnt, in any row: a quarter of the places,
    # and of a vocabulary of 50,000 they take more memory than all the rest.
    at = (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "logits_to_keep": at,
        "shift_labels": labels[:, at + 1],
    }


def as_item(example: Example) -> dict[str, Any]:
    """What the data loader takes: the labels are the tokens, or -100 where there is no loss."""
    pairs = zip(example.tokens, example.mask, strict=True)
    return {
        "input_ids": list(example.tokens),
        "labels": [token if on else IGNORED for token, on in pairs],
        "length": len(example.tokens),
    }


# ---- evaluation ---------------------------------------------------------------------------------


def budget_of(recipe: Recipe, level: Level) -> int | None:
    """The most tokens of an answer; None: as many as masked answers may need to end."""
    return (recipe.evaluation.max_new_tokens or None) if level is Level.FREE else None


def score(model: LanguageModel, questions: Sequence[Question], recipe: Recipe) -> dict[str, Counts]:
    """Strict counts of generated answers, by format.

    Free answers are read leniently, masked ones strictly, as `cner predict` does.
    """

    def group(question: Question) -> tuple[Any, ...]:
        return (
            question.format,
            question.corpus,
            question.labels,
            question.index,
            question.guideline,
        )

    level = Level.parse(recipe.evaluation.level)
    counts: dict[str, Counts] = {}
    for (name, corpus, labels, index, guideline), items in groupby(
        sorted(questions, key=group), key=group
    ):
        asked = sorted(items, key=lambda question: len(question.document.text))
        predictor = Predictor(
            model,
            get_format(name, asked[0].options),
            labels,
            level,
            recipe.evaluation.batch_size,
            budget_of(recipe, level),
            dataset=corpus,
            index=index,
            guideline=guideline,
        )
        predictions = predictor.predict(question.document for question in asked)
        for question, prediction in zip(asked, predictions, strict=True):
            gold = [e for e in question.document.entities if e.label in labels]
            found = strict(question.document.text, gold, prediction.entities)
            counts[name] = counts.get(name, Counts()) + found
    return counts


# ---- the loop -----------------------------------------------------------------------------------


def is_main() -> bool:
    """Whether this is the process that writes and reports, of those that train together."""
    return os.environ.get("RANK", "0") == "0"


def wait() -> None:
    """Until all processes have come here."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


class _ByLength(torch.utils.data.Sampler[int]):
    """Examples of like length together; the order hangs on the seed and the epoch only.

    transformers' own takes it from torch's global generator, which stands elsewhere when a run goes
    on in its second epoch.
    """

    def __init__(self, lengths: list[int], together: int, seed: int, epoch: Callable[[], int]):
        self.lengths, self.together, self.seed, self.epoch = lengths, together, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(1_000_003 * self.epoch() + self.seed)
        grouped: Any = get_length_grouped_indices
        return iter(grouped(self.lengths, self.together, generator=chance))


class _Trainer(Trainer):
    """Evaluates by generation."""

    def __init__(self, recipe: Recipe, model: LanguageModel, dev: Sequence[Question], **rest: Any):
        super().__init__(model=model.steerable.model, **rest)
        self.recipe, self.language_model, self.dev = recipe, model, dev

    def _get_train_sampler(self, train_dataset: Any = None) -> _ByLength:
        examples: Any = train_dataset or self.train_dataset
        # the state's epoch is whole where one begins, and behind it where a run goes on inside one
        return _ByLength(
            [len(item["input_ids"]) for item in examples],
            self.args.train_batch_size * self.args.gradient_accumulation_steps,
            self.recipe.seed,
            lambda: int(self.state.epoch or 0),
        )

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # weights that are tied to others are saved once
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        missing = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def finish(self, checkpoint: Path) -> None:
        """Take over the outcome of a run that has come to its end already."""
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))
        if self.state.best_model_checkpoint is not None:
            self._load_best_model()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        started = perf_counter()
        bare: Any = self.model
        bare.eval()
        share = self.dev[self.args.process_index :: self.args.world_size]
        counts = sum(score(self.language_model, share, self.recipe).values(), Counts())
        tensor = torch.tensor(
            [[counts.gold, counts.found, counts.predicted, counts.correct]],
            device=self.args.device,
            dtype=torch.float64 if self.args.device.type != "mps" else torch.float32,
        )
        gold, found, predicted, correct = self.accelerator.gather(tensor).sum(0).tolist()
        total = Counts(int(gold), found, int(predicted), correct).scores
        metrics = {
            "eval_precision": total.precision or 0.0,
            "eval_recall": total.recall or 0.0,
            "eval_f1": total.f1 or 0.0,
            "eval_gold": int(gold),
            "eval_predicted": int(predicted),
            "eval_correct": int(correct),
            "eval_seconds": perf_counter() - started,
        }
        bare.train()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _Patience(TrainerCallback):
    """Ends training where the last evaluations brought no better score."""

    def __init__(self, patience: int):
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if _in_vain(state.log_history, self.patience):
            control.should_training_stop = control.should_save = True


def _in_vain(log: Sequence[dict[str, Any]], patience: int) -> bool:
    scores = [entry["eval_f1"] for entry in log if "eval_f1" in entry]
    return bool(patience and scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


class _Log(TrainerCallback):
    """Writes what is logged as JSON lines, and ends the run where a loss is no number."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # what a stopped run logged after its last checkpoint is about to be logged again
        if state.is_world_process_zero:
            with self.path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in state.log_history)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # nothing is saved before its loss was looked at
        control.should_log = control.should_log or control.should_save

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs:
            return
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")
        for what in ("loss", "grad_norm"):
            value = logs.get(what)
            if value is not None and not math.isfinite(value):
                raise TrainingError(
                    f"the {what} is {value} at step {state.global_step}: try a smaller learning "
                    "rate, in another folder"
                )


class _Checkpoints(TrainerCallback):
    """Marks what is written as whole, and only then removes what is older."""

    def __init__(self, keep: int):
        self.keep = keep

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait()  # each process writes a file of its own
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        (folder / f"checkpoint-{state.global_step}" / MARK).touch()
        best = f"checkpoint-{state.best_global_step}"
        others = [path for path in whole_checkpoints(folder) if path.name != best]
        for path in others[: -self.keep]:
            remove_checkpoint(path)


def whole_checkpoints(folder: Path) -> list[Path]:
    """Those that were written to their end, the oldest first."""
    return [path for path in _checkpoints(folder) if (path / MARK).exists()]


def _checkpoints(folder: Path) -> list[Path]:
    found = {
        int(step): path
        for path in folder.glob("checkpoint-*")
        if (step := path.name.removeprefix("checkpoint-")).isdecimal()
    }
    return [found[step] for step in sorted(found)]


def remove_checkpoint(folder: Path) -> None:
    """The mark goes first: what is half removed is not whole."""
    (folder / MARK).unlink(missing_ok=True)
    shutil.rmtree(folder)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that were cut off while being written are removed."""
    whole = whole_checkpoints(folder)
    for path in set(_checkpoints(folder)) - set(whole):
        remove_checkpoint(path)
    if not whole:
        return None
    # the folder may have been moved since
    path = whole[-1] / STATE
    state = json.loads(path.read_text(encoding="utf-8"))
    best = folder / f"checkpoint-{state['best_global_step']}"
    if state["best_model_checkpoint"] not in (None, str(best)):
        changed = path.with_suffix(".new")
        changed.write_text(json.dumps({**state, "best_model_checkpoint": str(best)}))
        changed.replace(path)
    return whole[-1]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell a disk that is full from other errors, whichever library met it.

    Raises
    ------
    TrainingError: something could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # so torch's own writer says that it could not write
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
        place = getattr(error, "filename", None) or folder
        raise TrainingError(
            f"{place}: cannot be written: {reason}; the run goes on from its last checkpoint when "
            "it is called again"
        ) from error


def train(
    recipe: Recipe,
    folder: Path,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[LanguageModel, Drawn, list[dict[str, Any]]]:
    """Run a recipe, or go on with a run of it.

    Returns
    -------
    The model with its best weights, what was drawn, and the log.

    Raises
    ------
    InputError, TrainingError: see `draw_examples`; the disk is full; the loss is no number.
    """
    torch.manual_seed(recipe.seed)
    model = _with_lora(recipe, load_model(recipe.model, device="cpu", dtype="float32"))
    drawn = draw_examples(recipe, model, progress)
    checkpoints = folder.resolve() / "checkpoints"
    arguments = _arguments(recipe, checkpoints, len(drawn.train), bool(drawn.dev))
    if is_main():
        with writing(folder):
            checkpoints.mkdir(parents=True, exist_ok=True)
            _check_same(recipe, folder)
            last_checkpoint(checkpoints)
        _check_disk(model, recipe, checkpoints)
    wait()
    last = next(reversed(whole_checkpoints(checkpoints)), None)
    trainer = _Trainer(
        recipe,
        model,
        drawn.dev,
        args=arguments,
        train_dataset=[as_item(example) for example in drawn.train],
        eval_dataset=[{}] if drawn.dev else None,
        data_collator=lambda items: collate(items, model.tokenizer.pad_token_id),
        callbacks=[
            _Log(folder / "log.jsonl"),
            _Checkpoints(recipe.training.keep),
            _Patience(recipe.training.patience),
            *callbacks,
        ],
    )
    trainer.remove_callback(PrinterCallback)
    with writing(folder), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        if last and _in_vain(_log_of(last), recipe.training.patience):
            trainer.finish(last)
        else:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    bare: Any = model.steerable.model
    bare.eval()
    return model, drawn, trainer.state.log_history


def _log_of(checkpoint: Path) -> list[dict[str, Any]]:
    return list(TrainerState.load_from_json(str(checkpoint / STATE)).log_history)


def _check_same(recipe: Recipe, folder: Path) -> None:
    """A folder holds one run: another recipe, or other data, would not go on with it."""
    files = [[data.train, data.dev, data.test] for data in recipe.data]
    run = {
        **recipe.to_json(),
        "files": [[path and sha256_of(path) for path in paths] for paths in files],
    }
    path = folder / RUN
    if not path.exists():
        path.write_text(json.dumps(run, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path}: damaged: {error}") from None
    for key, value in run.items():
        if before.get(key) != value:
            raise TrainingError(
                f"{folder} holds a run with another {key!r}: name another folder, or remove it"
            )


def _with_lora(recipe: Recipe, model: LanguageModel) -> LanguageModel:
    if recipe.lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    targets = recipe.lora.targets
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    try:
        with warnings.catch_warnings():  # peft uses a name that transformers is about to change
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            adapted = get_peft_model(model.steerable.model, config)
    except ValueError as error:
        raise TrainingError(f"lora.targets: {error}") from None
    # the name that finds the base again, not the folder where it was found here
    adapted.peft_config["default"].base_model_name_or_path = recipe.model
    return wrap(model.name, adapted, model.tokenizer)


def _check_disk(model: LanguageModel, recipe: Recipe, folder: Path) -> None:
    """A checkpoint is the trained weights and twice as much of optimiser state."""
    parameters = [p for p in model.steerable.model.parameters() if p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in parameters)
    # besides those that are kept: the best one, one that is being written, and the model in the end
    more = max(1, recipe.training.keep + 2 - len(whole_checkpoints(folder)))
    needed = (3 * more + 1) * size
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"{folder}: {free / 1e9:.1f} GB are free, and the run takes {needed / 1e9:.1f}"
        )


def _has_bf16() -> bool:
    """Whether the device computes in bfloat16, which is also what some processors do."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def _arguments(recipe: Recipe, folder: Path, examples: int, evaluates: bool) -> TrainingArguments:
    chosen = recipe.training
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    steps = math.ceil(examples / (chosen.batch_size * chosen.accumulation * processes))
    every = max(1, round(steps / chosen.evaluations))
    bf16 = chosen.dtype == "bfloat16" or (chosen.dtype == "auto" and _has_bf16())
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=chosen.batch_size,
        gradient_accumulation_steps=chosen.accumulation,
        num_train_epochs=chosen.epochs,
        learning_rate=chosen.learning_rate,
        lr_scheduler_type=chosen.scheduler,
        warmup_steps=chosen.warmup,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.max_grad_norm,
        optim="adamw_torch",
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=chosen.gradient_checkpointing,
        ddp_find_unused_parameters=False,  # there are none
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=max(1, min(10, every)),
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        load_best_model_at_end=evaluates,
        metric_for_best_model="f1" if evaluates else None,
        greater_is_better=True if evaluates else None,
        report_to="none",
        disable_tqdm=True,
        seed=recipe.seed,
        data_seed=recipe.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
