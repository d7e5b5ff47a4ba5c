"""The training loop: transformers' `Trainer`, with the score that is used: F1 of generated answers.

A run's folder holds `checkpoints/`, the log `log.jsonl`, and in the end the model as `cner predict
--model` takes it. A run that was stopped goes on from its last whole checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerState

from constrained_ner.engines.models import (
    LoadedModel,
    base_of,
    computes_in_bfloat16,
    default_device,
    load_model,
    wrap,
)
from constrained_ner.errors import TrainingError
from constrained_ner.evaluation import Counts

from .batches import (
    Batches,
    answers_only,
    as_item,
    collate,
    collate_packed,
    pack,
    reads_alike,
)
from .cache import FILE as CACHE
from .cache import save_examples
from .checkpoints import (
    ADAPTER,
    STATE,
    Checkpoints,
    check_disk,
    check_same,
    last_checkpoint,
    whole_checkpoints,
    writing,
)
from .clock import Clock, factor
from .data import Drawn, draw_examples
from .examples import Example, Question
from .objectives import OBJECTIVES, Objective
from .processes import gather, is_main, wait
from .recipe import Recipe
from .reporting import check_report, reporting
from .scoring import score


class _Trainer(Trainer):
    """Evaluates by generation; its loss is the recipe's objective."""

    objective: Objective

    def __init__(
        self,
        recipe: Recipe,
        model: LoadedModel,
        dev: Sequence[Question],
        clock: Clock | None,
        spent: float,
        text: Sequence[int],
        **rest: Any,
    ):
        self.objective = OBJECTIVES[recipe.training.objective]
        super().__init__(model=model.steerable.model, compute_loss_func=self._loss, **rest)
        self.recipe, self.language_model, self.dev = recipe, model, dev
        self.copy = deepcopy(self.model) if self.is_fsdp_enabled else None
        self.shares = (
            self.args.device.type == "cpu"
            and not self.is_fsdp_enabled
            and not recipe.training.gradient_checkpointing
            and reads_alike(self.model, text, packed=False)
        )
        pad = model.tokenizer.pad_token_id
        packs = recipe.training.row_tokens > 0
        self.data_collator = (
            collate_packed if packs else partial(collate, pad=pad, share=self.shares)
        )
        self.clock, self.spent, self.began = clock, spent, perf_counter()
        self.own_attention: Callable[[], None] = lambda: None  # see `answers_only`
        if recipe.training.compile:
            _compile_layers(self.model)

    def training_step(self, *given: Any, **rest: Any) -> torch.Tensor:
        if self.recipe.lora is None:
            return super().training_step(*given, **rest)
        from peft.helpers import disable_input_dtype_casting

        # autocast sees to the types; peft would go by way of float32 in every layer
        bare: Any = self.model
        with disable_input_dtype_casting(bare, self.args.bf16):
            return super().training_step(*given, **rest)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor | Any], *given: Any, **rest: Any
    ) -> Any:
        # taken out, so that the model computes no loss of its own
        self._tokens, self._weights = inputs.pop("shift_labels"), inputs.pop("weights")
        self._allowed = inputs.pop("allowed", None)
        return super().compute_loss(model, inputs, *given, **rest)

    def _loss(
        self, outputs: Any, _: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Of the logits that `answers_only` leaves, by the objective of the recipe."""
        total = self._weights.sum() if num_items_in_batch is None else num_items_in_batch
        given = self._tokens, self._weights, total, self._allowed
        return self.objective.of(outputs.logits[0], *given)

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """With the sum of the weights in a step in place of the number of its tokens."""
        batches, number = super().get_batch_samples(epoch_iterator, num_batches, device)
        if number is None:
            return batches, None
        total = torch.stack([batch["weights"].sum() for batch in batches]).sum().to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        return batches, total

    @contextmanager
    def frozen_in_bf16(self) -> Iterator[None]:
        """Hold the weights that are not trained in the type that they are multiplied in.

        Else each step casts all of them, and what lies between the layers is float32: a third of
        the time on a CPU. They are what they were afterwards.
        """
        # FSDP shares the weights out by type
        active = self.args.bf16 and self.recipe.lora is not None and not self.is_fsdp_enabled
        bare: Any = self.model
        frozen = [weight for weight in bare.parameters() if active and not weight.requires_grad]
        before = [weight.data.cpu() for weight in frozen]
        for weight in frozen:
            weight.data = weight.data.bfloat16()
        try:
            yield
        finally:
            for weight, data in zip(frozen, before, strict=True):
                weight.data = data.to(weight.device)

    def whole_model(self) -> LoadedModel:
        """The model to generate with and to save: a copy, where each process holds a part."""
        if self.copy is None:
            return self.language_model
        gather(self.model_wrapped, self.copy)
        given = self.language_model
        return wrap(given.name, self.copy.to(self.args.device).eval(), given.tokenizer)

    def _get_train_sampler(self, train_dataset: Any = None) -> Batches:
        examples: Any = train_dataset or self.train_dataset
        if self.recipe.training.row_tokens:  # all about as long
            examples = [{"opening": None, "length": 1}] * len(examples)
        return Batches(
            [item["opening"] for item in examples],
            [item["length"] for item in examples],
            self.args.train_batch_size,
            self.args.world_size,
            self.recipe.seed,
            # whole where an epoch begins, and behind it where a run goes on inside one
            lambda: int(self.state.epoch or 0),
        )

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        clock, chosen = self.clock, self.recipe.training
        if clock is not None and self.lr_scheduler is None:
            given: Any = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                given,
                lambda _: factor(clock.share, chosen.scheduler, chosen.warmup),
            )
        return super().create_scheduler(num_training_steps, optimizer)

    def log(self, logs: dict[str, float], *given: Any, **rest: Any) -> None:
        so_far = self.spent + (perf_counter() - self.began) / 60
        minutes = so_far if self.clock is None else self.clock.so_far
        super().log({**logs, "minutes": minutes}, *given, **rest)

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
        else:
            self._load_from_checkpoint(str(checkpoint))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        started = perf_counter()
        bare: Any = self.model
        bare.eval()
        self.own_attention()
        share = self.dev[self.args.process_index :: self.args.world_size]
        counts = sum(score(self.whole_model(), share, self.recipe).values(), Counts())
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


def train(
    recipe: Recipe,
    folder: Path,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[LoadedModel, Drawn, list[dict[str, Any]]]:
    """Run a recipe, or go on with a run of it.

    Returns
    -------
    The model with its best weights, what was drawn (where the clock ended the run, of the training
    examples those that it came to), and the log.

    Raises
    ------
    InputError, TrainingError: see `draw_examples`; the disk is full; the loss is no number.
    MissingExtraError: what is to be reported needs a package that is not installed.
    """
    check_report(recipe.report)
    torch.manual_seed(recipe.seed)
    model = with_lora(recipe, load_model(recipe.model, device="cpu", dtype="float32"))
    drawn = draw_examples(recipe, model, progress, folder / CACHE)
    checkpoints = folder.resolve() / "checkpoints"
    items = _items(recipe, drawn, model)
    text = drawn.train[0].tokens[:64]
    if recipe.training.row_tokens:
        _check_rows(model, text)
    arguments = _arguments(recipe, checkpoints, len(items), bool(drawn.dev))
    if is_main():
        keep_examples(recipe, drawn, folder)
        with writing(folder):
            checkpoints.mkdir(exist_ok=True)
            last_checkpoint(checkpoints)
        check_disk(model, recipe, checkpoints)
    wait()
    last = next(reversed(whole_checkpoints(checkpoints)), None)
    before = TrainerState.load_from_json(str(last / STATE)) if last else TrainerState()
    spent = max((entry.get("minutes", 0.0) for entry in before.log_history), default=0.0)
    clock = Clock(recipe.training.minutes, spent) if recipe.training.minutes else None
    trainer = _Trainer(
        recipe,
        model,
        drawn.dev,
        clock,
        spent,
        text,
        args=arguments,
        train_dataset=items,
        eval_dataset=[{}] if drawn.dev else None,
        callbacks=[
            *([clock] if clock else []),
            _Log(folder / "log.jsonl"),
            Checkpoints(recipe.training.keep),
            _Patience(recipe.training.patience),
            *callbacks,
        ],
    )
    trainer.remove_callback(PrinterCallback)
    with writing(folder), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        over = clock is not None and clock.share >= 1
        # With half an epoch left over, transformers would take one more step.
        over = over or before.global_step >= before.max_steps
        if last and (over or _in_vain(before.log_history, recipe.training.patience)):
            trainer.finish(last)
        else:
            with (
                trainer.frozen_in_bf16(),
                answers_only(trainer.model, trainer.args.bf16) as trainer.own_attention,
                reporting(recipe.report, folder, before.global_step) as reports,
            ):
                for report in reports:
                    trainer.add_callback(report)
                trainer.train(resume_from_checkpoint=str(last) if last else None)
    whole = trainer.whole_model()
    bare: Any = whole.steerable.model
    bare.eval()
    return whole, replace(drawn, train=_seen(drawn.train, trainer)), trainer.state.log_history


def keep_examples(recipe: Recipe, drawn: Drawn, folder: Path) -> None:
    """Begin a run's folder, or go on with it: what is trained on what, and the examples.

    Raises
    ------
    TrainingError: the folder holds another run, or cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        check_same(recipe, folder, drawn.fingerprint)
        if not drawn.kept:
            save_examples([*drawn.train, *drawn.held_out], drawn.fingerprint, folder / CACHE)


def _items(recipe: Recipe, drawn: Drawn, model: LoadedModel) -> list[Any]:
    """What the data loader takes: examples, or rows of them in an order that the seed decides."""
    objective = OBJECTIVES[recipe.training.objective]
    vocabulary = model.vocabulary if objective.masked else None
    items = [
        {**as_item(one, objective, vocabulary), "example": at} for at, one in enumerate(drawn.train)
    ]
    if not recipe.training.row_tokens:
        return items
    random.Random(recipe.seed).shuffle(items)
    return pack(items, recipe.training.row_tokens)


def _seen(examples: Sequence[Example], trainer: _Trainer) -> list[Example]:
    """Those that a run has come to, which may have ended inside its first epoch."""
    share = trainer.state.epoch or 0.0
    if share >= 1:
        return list(examples)
    items: Any = trainer.train_dataset
    came = list(trainer._get_train_sampler())[: round(share * len(items))]
    of = [item if isinstance(item, list) else [item] for item in (items[at] for at in came)]
    return [examples[one["example"]] for row in of for one in row]


def _check_rows(model: LoadedModel, text: Sequence[int]) -> None:
    """See that a model reads examples in a row as it reads each of them.

    Raises
    ------
    TrainingError: it does not.
    """
    bare: Any = model.steerable.model
    if not reads_alike(bare, text, packed=True):
        raise TrainingError(
            f"training.row_tokens: a {bare.config.model_type} does not keep the examples of a row "
            "apart: expected 0"
        )


def _compile_layers(model: Any) -> None:
    """Compile the decoder layers one by one: they are alike, so that it takes the time of one.

    Raises
    ------
    TrainingError: the model keeps them otherwise than as a list of modules.
    """
    size = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == size)
    layers = next(lists, None)
    if layers is None:
        raise TrainingError(
            f"training.compile: a {model.config.model_type} has no list of {size} layers: expected "
            "false"
        )
    for layer in layers:
        layer.compile(dynamic=True)


def with_lora(recipe: Recipe, model: LoadedModel) -> LoadedModel:
    """The model with the adapter that a recipe trains, if it has one.

    Raises
    ------
    TrainingError: there are no such layers; or the adapter to begin with does not suit.
    """
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
    if recipe.lora.start is not None:
        _begin_with(recipe.lora.start, adapted)
    # peft looks for a configuration there whenever it saves; a packaged model's name is none that
    # it could find, and it would ask the hub
    adapted.peft_config["default"].base_model_name_or_path = base_of(recipe.model)
    return wrap(model.name, adapted, model.tokenizer)


def _begin_with(folder: Path, adapted: Any) -> None:
    """Take over the weights of an adapter, whose rank may be lower.

    Raises
    ------
    TrainingError: there is none, its rank is higher, or it is of other layers.
    """
    from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict

    try:
        weights = load_file(folder / ADAPTER)
        before: Any = PeftConfig.from_pretrained(str(folder))
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(f"lora.start: {folder / ADAPTER} cannot be read: {error}") from None
    own = get_peft_model_state_dict(adapted)
    now = adapted.peft_config["default"]
    # Of the product B A, which is scaled by alpha / rank, nothing changes.
    scale = (before.lora_alpha / before.r) / (now.lora_alpha / now.r)

    def fits(name: str) -> bool:
        """Whether all but the rank, which may be lower, is as it is here."""
        side = 0 if "lora_A" in name else 1
        one, other = tuple(weights[name].shape), tuple(own[name].shape)
        return bool(one[1 - side] == other[1 - side] and one[side] <= other[side])

    if weights.keys() != own.keys() or not all(map(fits, weights)):
        raise TrainingError(
            f"lora.start: {folder} is another kind of adapter: expected the recipe's targets, and "
            f"a rank of {now.r} at most"
        )
    # Of A [rank, in] the further rows are those that training would begin with without it, and of
    # B [out, rank] the further columns are zeros, as they are there.
    for name, weight in weights.items():
        rows, columns = weight.shape
        own[name][:rows, :columns] = weight * (scale if "lora_B" in name else 1.0)
    set_peft_model_state_dict(adapted, own)


def _arguments(recipe: Recipe, folder: Path, examples: int, evaluates: bool) -> TrainingArguments:
    chosen = recipe.training
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    steps = math.ceil(examples / (chosen.batch_size * chosen.accumulation * processes))
    every = max(1, round(steps / chosen.evaluations))
    device = default_device()
    able = chosen.dtype == "auto" and computes_in_bfloat16(device)
    bf16 = chosen.dtype == "bfloat16" or able
    # transformers has given it another name.
    known = {one.name for one in fields(TrainingArguments)}
    name = (
        "activation_checkpointing"
        if "activation_checkpointing" in known
        else "gradient_checkpointing"
    )
    checkpointing: Any = {name: chosen.gradient_checkpointing}
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=chosen.batch_size,
        gradient_accumulation_steps=chosen.accumulation,
        num_train_epochs=chosen.epochs,
        learning_rate=chosen.learning_rate,
        lr_scheduler_type=chosen.scheduler,
        warmup_steps=chosen.warmup,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.max_grad_norm,
        optim="adamw_torch_fused" if device == "cuda" else "adamw_torch",
        bf16=bf16,
        use_cpu=device == "cpu",
        **checkpointing,
        ddp_find_unused_parameters=False,  # there are none
        include_num_input_tokens_seen="all" if chosen.row_tokens else "non_padding",
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
        dataloader_pin_memory=device == "cuda",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # a process has one; transformers would share out each batch
    return arguments
