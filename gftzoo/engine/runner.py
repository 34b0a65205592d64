"""Training with mmengine's Runner, fed with built objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from gftzoo.data import Layout, Source, open_source, training_data
from gftzoo.engine import checkpoint, estimate
from gftzoo.engine.adapting import adapted, refuse_changed_base, refuse_lost_base
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.ema import EMA
from gftzoo.engine.folder import plain_failures, prepared_folder, removed_if_not_built
from gftzoo.engine.hooks import EMAHook, FiniteHook, SampleHook, ScheduleHook
from gftzoo.engine.loop import MixedPrecision, choose_dtype, reseed
from gftzoo.engine.parallel import parallelize, process_group
from gftzoo.engine.progress import ProgressHook
from gftzoo.engine.provenance import Origin, with_classes_of
from gftzoo.engine.saving import CheckpointHook
from gftzoo.engine.trackers import refuse_missing
from gftzoo.engine.training import TrainingModel
from gftzoo.engine.workers import deaf_to_signals
from gftzoo.engine.zoo_runner import ZooRunner
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.loading.files import import_model, locate
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.weights import read_card

HookBuilder = Callable[[Model, EMA | None], list[Hook]]


def choose_device(wanted: str) -> torch.device:
    """The device of this process; UsageError for one that is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        wanted = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {wanted!r} is not available here; name cpu, or leave it to auto.") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return device


def tokenizer_at_hand(config: TrainConfig) -> bool:
    """Whether the tokenizer's weights need no download."""
    return config.tokenizer_path is not None or config.card.tokenizer.repo is None


def tokenizer_needed(config: TrainConfig, source: Source) -> bool:
    """Whether training calls the tokenizer; from a cache most families do not, and then none is fetched for samples."""
    return not source.is_encoded or load_family(config.card.family).options().reads_tokenizer


def initial_model(config: TrainConfig, source: Source) -> Model:
    """The model at step 0: fresh, or from the weights the run starts from."""
    tokenizer, family = None, load_family(config.card.family)
    if tokenizer_at_hand(config) or tokenizer_needed(config, source):
        tokenizer = family.build_tokenizer(config.card.tokenizer, config.tokenizer_path)
    reseed("initialisation", config.seed)  # here, so that the network is the same without a tokenizer
    if config.weights is None:
        return Model.fresh(config.card, tokenizer)
    located = locate(config.card, config.weights, config.entry)
    return import_model(config.card, located.path, config.entry, tokenizer, located)


def refuse_other_start(model: Model, resume_from: Path, weights: str) -> None:
    """GftzooError if the weights that the run started from, which its objective needs again, are no longer the same."""
    _, then = read_card(resume_from)
    then = then.get("started_from", then)
    if then.get("sha256") != model.provenance.get("sha256"):
        raise GftzooError(
            f"the run started from {weights!r} with hash {str(then.get('sha256'))[:12]} and the file has now "
            f"{str(model.provenance.get('sha256'))[:12]}; its objective compares with those weights, put them back."
        )


def train(config: TrainConfig, run: Path, resume: bool = False, accept_changes: bool = False) -> Path:
    """Trains as configured and returns the run's folder.

    Args:
        config: resolved by `gftzoo.engine.resolve`, or read from a run.
        run: folder for config.yaml, metrics.jsonl, log.txt, checkpoints/ and samples/; new unless `resume`.
        resume: go on from the newest complete checkpoint.
        accept_changes: take data, settings and versions as they are now for what the run is made of.

    Raises:
        UsageError: a resumed run has other classes, or settings that decide its weights, than it began with.
        GftzooError: the run does not fit into memory, its loss or weights became non-finite, its newest checkpoint is
            damaged, or a file could not be written.
    """
    with process_group(config), plain_failures(run):
        train_in_group(config, run, resume, accept_changes)
    return run


def train_in_group(config: TrainConfig, run: Path, resume: bool, accept_changes: bool) -> None:
    """The run, on this rank."""
    refuse_missing(config)
    device = choose_device(config.device)
    source = open_source(config.data, split="train")
    if accept_changes:
        config = with_classes_of(config, source)
    source.check(config.card)
    source.check_processes(get_dist_info()[1], config.workers)
    cost = estimate.training_cost(config, device, get_dist_info()[1])
    cost.refuse_if_too_large(device)
    origin = Origin()
    with prepared_folder(run, config, resume, lambda: origin.look(config, run, source, accept_changes)):
        progress = ProgressHook(config, run, device, cost.flops_per_image)
        hooks = partial(_hooks, config, run, source, progress, origin)
        with removed_if_not_built(run, resume):
            runner = build_runner(config, run, source, device, hooks, resume)
        for sentence in origin.changes:
            runner.logger.warning(sentence)
        try:
            runner.train()
        finally:
            progress.close()
            runner.visualizer.close()


def build_runner(
    config: TrainConfig, run: Path, source: Source, device: torch.device, hooks: HookBuilder, resume: bool = False
) -> ZooRunner:
    """The Runner of a run with everything built; `hooks` makes those that go with a model and its average."""
    resume_from = checkpoint.newest(run) if resume else None
    if resume_from is not None:
        refuse_lost_base(config, resume_from)
    model = adapted(initial_model(config, source), config).to(device)
    model.provenance["objective"] = config.objective
    source.check_model(model)
    objective = build_objective(config.objective, config.objective_options)
    if resume_from is not None and objective.copies:
        refuse_other_start(model, resume_from, str(config.weights))
    if resume_from is not None:
        refuse_changed_base(model, config, resume_from)
    objective.prepare(model)
    ema_network = model.network
    wrapped = parallelize(TrainingModel(model, objective, config.seed, config.train == "temperature"), config, device)
    ema = EMA(ema_network, config.ema_decay, config.ema_warmup) if config.ema_decay is not None else None
    groups = model.family.parameter_groups(model.network, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    dtype = choose_dtype(config.precision, device)
    return ZooRunner(
        run=run,
        config=config,
        resume_from=resume_from,
        ema=ema,
        model=wrapped,
        train_dataloader=_dataloader(config, source),
        optim_wrapper=MixedPrecision(optimizer, config.accumulate, dtype, config.clip_norm, device),
        default_hooks=dict.fromkeys(DEFAULT_HOOKS),
        custom_hooks=hooks(model, ema),
    )


# mmengine's own hooks; ours do their work in a way that resumes exactly and keeps safetensors.
DEFAULT_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")


def step_hooks(config: TrainConfig, ema: EMA | None) -> list[Hook]:
    """The hooks that are part of every step."""
    return [ScheduleHook(config), *([EMAHook(ema)] if ema is not None else [])]


def _hooks(
    config: TrainConfig,
    run: Path,
    source: Source,
    progress: ProgressHook,
    origin: Origin,
    model: Model,
    ema: EMA | None,
) -> list[Hook]:
    finite = FiniteHook(config, run)
    hooks = [
        *step_hooks(config, ema),
        finite,
        progress,
        CheckpointHook(config, run, model, ema, finite, origin),
    ]
    # A sampler calls parts of the network, which only whole weights allow.
    sharded = torch.distributed.is_initialized() and config.parallel == "fsdp"
    if model.tokenizer is not None and not sharded:
        hooks.append(SampleHook(config, run, model, ema, grid_conditions(model, source)))
    return hooks


def grid_conditions(model: Model, source: Source) -> list[Any]:
    """The conditions of a sample grid: the first classes, or the first captions of the data."""
    if model.card.condition == "class":
        return list(model.card.drawn_classes)
    return source.first_conditions(10)


def _dataloader(config: TrainConfig, source: Source) -> DataLoader[Any]:
    _, world = get_dist_info()
    if config.batch_size % (config.accumulate * world):
        raise UsageError(
            f"batch_size {config.batch_size} does not divide by {world} ranks times accumulate {config.accumulate}; "
            f"use a multiple of {config.accumulate * world}."
        )
    batch_size = config.batch_size // (config.accumulate * world)
    dataset, sampler = training_data(
        source,
        resolution=config.card.resolution,
        channels=config.card.tokenizer.image_channels,
        seed=config.seed,
        hflip=config.hflip,
        layout=Layout(world, max(config.workers, 1), batch_size),
    )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=config.workers,
        collate_fn=collated,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=config.workers > 0,
        worker_init_fn=deaf_to_signals,
    )


def collated(batch: Any) -> Any:
    """`TrainingData` collates by itself, the whole batch at once."""
    return batch
