"""Training with mmengine's Runner, fed with built objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from gftzoo import arguments
from gftzoo.adapters import halve_frozen
from gftzoo.adapters.quantising import quantise_frozen
from gftzoo.arguments import shown
from gftzoo.data import Source
from gftzoo.engine import checkpoints
from gftzoo.engine.checkpoints.finite import FiniteHook
from gftzoo.engine.checkpoints.saving import CheckpointHook
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.parallel.place import Place, choose_place
from gftzoo.engine.parallel.sharding import parallelize
from gftzoo.engine.record.best import Best
from gftzoo.engine.record.folder import plain_failures, prepared_folder, removed_if_not_built
from gftzoo.engine.record.progress import ProgressHook
from gftzoo.engine.record.provenance import Origin, with_classes_of
from gftzoo.engine.record.reporting import ReportHook
from gftzoo.engine.record.samples import SampleHook
from gftzoo.engine.record.validating import Validation, ValidationHook, open_held_out
from gftzoo.engine.run.adapting import adapted, refuse_changed_base, refuse_half_base, refuse_lost_base
from gftzoo.engine.run.fitting import fitted
from gftzoo.engine.run.job import Job
from gftzoo.engine.run.packages import refuse_missing_packages
from gftzoo.engine.run.room import images_at_once
from gftzoo.engine.run.zoo_runner import ZooRunner
from gftzoo.engine.step.batches import dataloader
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.encodings import encodings_of
from gftzoo.engine.step.hooks import step_hooks
from gftzoo.engine.step.loop import reseed
from gftzoo.engine.step.module import TrainingModel
from gftzoo.engine.step.optimizer import MixedPrecision
from gftzoo.engine.step.optimizers import build_optimizer
from gftzoo.engine.step.shown import Shown
from gftzoo.errors import GftzooError, UsageError
from gftzoo.gft import GFTOptions
from gftzoo.group import process_group, rank_and_world
from gftzoo.loading.files import import_model, locate
from gftzoo.model import Model
from gftzoo.weights import read_card

HookBuilder = Callable[[Model, EMA | None], list[Hook]]


def initial_model(job: Job) -> Model:
    """The model at step 0: fresh, or from the weights the run starts from."""
    config, tokenizer = job.config, job.tokenizer()
    reseed("initialisation", config.seed)  # here, so that the network is the same without a tokenizer
    if config.weights is None:
        return Model.fresh(config.card, tokenizer, job.family)
    located = locate(config.card, config.weights, config.entry, job.family)
    return import_model(config.card, located.path, config.entry, tokenizer, located)


def prepared_model(job: Job, place: Place, resume_from: Path | None) -> Model:
    """What trains, on its device, and the objective prepared with it; refused where a resumed run had another."""
    if resume_from is not None:
        refuse_lost_base(job, resume_from)
    refuse_half_base(job, place)
    model = adapted(initial_model(job), job)
    model.half = place.half  # of its pictures; what it trains in is the optimizer's matter
    model.provenance["objective"] = job.config.objective
    model.provenance.pop("one_beta", None)  # of the weights it starts from
    model.provenance |= one_beta(job)
    job.source.check_model(model)
    if resume_from is not None and job.objective.copies:
        refuse_other_start(model, resume_from, str(job.config.weights))
    if resume_from is not None:
        refuse_changed_base(model, job.config, resume_from)
    if job.config.halves_base and place.half is not None:
        halve_frozen(model.network, place.half)  # before a device has to hold them whole
    if job.config.quantises_base:
        quantise_frozen(job.family.blocks(model.network), job.config.lora.base, place.half, place.device)
    model.to(place.device)
    job.objective.prepare(model)
    return model


def one_beta(job: Job) -> dict[str, float]:
    """What a run records of the temperature that it trains into a network which has no input for it."""
    options = job.objective.options
    told = job.config.card.temperature or not isinstance(options, GFTOptions) or options.one_beta is None
    return {} if told else {"one_beta": options.one_beta}


def refuse_other_start(model: Model, resume_from: Path, weights: str) -> None:
    """GftzooError if the weights that the run started from, which its objective needs again, are no longer the same."""
    _, then = read_card(resume_from)
    then = then.get("started_from", then)
    if then.get("sha256") != model.provenance.get("sha256"):
        raise GftzooError(
            f"the run started from {weights!r} with hash {str(then.get('sha256'))[:12]} and the file has now "
            f"{str(model.provenance.get('sha256'))[:12]}; its objective compares with those weights, put them back."
        )


def train(wanted: Job | TrainConfig, run: Path, resume: bool = False, accept_changes: bool = False) -> Path:
    """Trains as configured and returns the run's folder.

    Args:
        wanted: a configuration, resolved by `gftzoo.engine.resolve` or read from a run, or a job of one.
        run: folder for config.yaml, metrics.jsonl, log.txt, checkpoints/ and samples/; new unless `resume`.
        resume: go on from the newest complete checkpoint.
        accept_changes: take data, settings and versions as they are now for what the run is made of.

    Raises:
        UsageError: a resumed run has other classes, or settings that decide its weights, than it began with.
        GftzooError: the run does not fit into memory, its loss or weights became non-finite, its newest checkpoint is
            damaged, or a file could not be written.
    """
    run = arguments.path("run", run)
    if not isinstance(wanted, Job | TrainConfig):
        raise UsageError(f"what is to be trained is {shown(wanted)}; it is what `engine.resolve` or `plan` gives.")
    job = Job(wanted) if isinstance(wanted, TrainConfig) else wanted
    with process_group(job.config.device), plain_failures(run):
        train_in_group(job, run, resume, accept_changes)
    return run


def train_in_group(job: Job, run: Path, resume: bool, accept_changes: bool) -> None:
    """The run, on this rank."""
    refuse_missing_packages(job.config)
    place = choose_place(job.config.device, job.config.precision)
    if accept_changes:
        job = job.changed(card=with_classes_of(job.config, job.source))
    source, world = job.source, rank_and_world()[1]
    source.check(job.config.card)
    source.check_processes(world, job.config.workers)
    refuse_unfit_measures(job.config)
    fit = fitted(job, place, world)
    fit.cost.refuse_if_too_large(place.device)
    job, config, cost = fit.job, fit.job.config, fit.cost
    origin = Origin()
    with prepared_folder(run, config, resume, lambda: origin.look(config, run, source, accept_changes)):
        progress = ProgressHook(config, run, place.device, cost.flops_per_image)
        hooks = partial(_hooks, job, run, progress, origin)
        with removed_if_not_built(run, resume):
            runner = build_runner(job, run, place, hooks, resume)
        runner.logger.info(fit.sentence(place.device))
        if is_sharded(config):
            runner.logger.info(
                "No pictures are drawn on the way: parallel=fsdp has no whole weights on a device. "
                f"`gftzoo sample {quote(str(run))}` draws from a checkpoint."
            )
        for sentence in origin.changes:
            runner.logger.warning(sentence)
        try:
            runner.train()
        finally:
            progress.close()
            runner.visualizer.close()


def is_sharded(config: TrainConfig) -> bool:
    """Whether no device has whole weights, which samplers and validation need: they call parts of the network."""
    return torch.distributed.is_initialized() and config.parallel == "fsdp"


def refuse_unfit_measures(config: TrainConfig) -> None:
    """UsageError for a validation or a score that cannot be, before anything is written."""
    asked = {"validation": config.validation is not None, "score.every": config.score.every is not None}
    for name in (name for name, wanted in asked.items() if wanted and is_sharded(config)):
        raise UsageError(f"{name} needs whole weights on a device, which parallel=fsdp has not; use parallel=ddp.")
    if config.validation is not None:
        open_held_out(config)


def build_runner(job: Job, run: Path, place: Place, hooks: HookBuilder, resume: bool = False) -> ZooRunner:
    """The Runner of a run with everything built; `hooks` makes those that go with a model and its average."""
    config, resume_from = job.config, checkpoints.newest(run) if resume else None
    model = prepared_model(job, place, resume_from)
    encodings = encodings_of(job.source, model.tokenizer, config.card.resolution, model.device)
    trained = TrainingModel(model, job.objective, config.seed, config.train == "temperature", encodings)
    wrapped = parallelize(trained, model, config, place)
    ema = EMA(model.network, config.ema_decay, config.ema_warmup) if config.ema_decay is not None else None
    optimizer = build_optimizer(model.network, model.family, config)
    return ZooRunner(
        run=run,
        config=config,
        resume_from=resume_from,
        ema=ema,
        model=wrapped,
        train_dataloader=dataloader(config, job.source),
        optim_wrapper=MixedPrecision(optimizer, config.accumulate, config.clip_norm, place),
        default_hooks=dict.fromkeys(DEFAULT_HOOKS),
        custom_hooks=hooks(model, ema),
    )


# mmengine's own hooks; ours do their work in a way that resumes exactly and keeps safetensors.
DEFAULT_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")


def _hooks(job: Job, run: Path, progress: ProgressHook, origin: Origin, model: Model, ema: EMA | None) -> list[Hook]:
    config = job.config
    finite = FiniteHook(config, run)
    hooks = [
        *step_hooks(config, ema),
        finite,
        progress,
        CheckpointHook(config, run, model, ema, finite, origin.state),
    ]
    shown, best = Shown(config, ema), Best(config, run)
    scored = config.score.every is not None
    if config.validation is not None:
        validation = Validation(config, model, job.objective, open_held_out(config))
        hooks.append(ValidationHook(validation, run, shown, None if scored else best))
    if scored:
        from gftzoo.engine.record.scoring import ScoreHook  # with feature networks, slow to import

        hooks.append(ScoreHook(config, run, model, shown, best, images_at_once))
    if model.tokenizer is not None and not is_sharded(config):
        conditions = grid_conditions(model, job.source)
        hooks.append(SampleHook(config, run, model, shown, conditions, images_at_once))
    return [*hooks, ReportHook(config, run)]


def grid_conditions(model: Model, source: Source) -> list[Any]:
    """The conditions of a sample grid: the first classes, or the first captions of the data."""
    if model.card.condition == "class":
        return list(model.card.drawn_classes)
    return source.first_conditions(10)
