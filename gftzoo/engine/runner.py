"""Training with mmengine's Runner, fed with built objects."""

from __future__ import annotations

import atexit
import errno
import logging
import multiprocessing
import os
import re
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_dist_info, is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from gftzoo.data import Layout, Source, open_source, training_data
from gftzoo.engine import checkpoint, estimate
from gftzoo.engine.config import CONFIG_FILE, TrainConfig
from gftzoo.engine.ema import EMA
from gftzoo.engine.hooks import STOPS, CheckpointHook, EMAHook, FiniteHook, SampleHook, ScheduleHook
from gftzoo.engine.loop import MixedPrecision, StepLoop, choose_dtype, reseed
from gftzoo.engine.parallel import any_rank, parallelize, process_group
from gftzoo.engine.progress import ProgressHook
from gftzoo.engine.trackers import build_trackers, refuse_missing
from gftzoo.engine.training import TrainingModel
from gftzoo.errors import GftzooError, UsageError
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.plugins import load_family
from gftzoo.weights import import_model, read_card, resolve_weights


class ZooRunner(Runner):
    """mmengine's Runner with gftzoo's loop, parallel wrapping, log and checkpoints, all by its public overrides."""

    def __init__(
        self, *, run: Path, config: TrainConfig, resume_from: Path | None, ema: EMA | None, **arguments: Any
    ) -> None:
        self.run_folder, self.config, self.resume_from, self.ema = run, config, resume_from, ema
        super().__init__(
            work_dir=str(run),
            launcher="pytorch" if torch.distributed.is_initialized() else "none",
            randomness={"seed": config.seed},
            train_cfg={},  # the loop is built below, not from a description
            experiment_name=f"{run.name}-{uuid.uuid4().hex[:8]}",  # mmengine keeps loggers by this name
            **arguments,
        )

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        self._rank, self._world_size = get_dist_info()
        self._timestamp = "trackers"  # the sub-folder of a run for what trackers write

    def build_logger(self, *arguments: Any, **options: Any) -> logging.Logger:
        MMLogger.get_instance(self.experiment_name, log_level="ERROR")  # mmengine's own messages
        return run_logger(self.run_folder)

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        backends = build_trackers(self.config, self.run_folder) if self.config.trackers and is_main_process() else []
        return Visualizer(name=self.experiment_name, vis_backends=backends)

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        return model  # parallelised before the optimizer was built

    def build_train_loop(self, loop: Any) -> StepLoop:
        config = self.config
        return StepLoop(self, self._train_dataloader, config.steps, config.accumulate, config.batch_size)

    def load_or_resume(self) -> None:
        if self.resume_from is not None:
            trained: Any = getattr(self.model, "module", self.model)
            wrapper = self.optim_wrapper
            state = checkpoint.restore(self.resume_from, trained.zoo_model, wrapper.optimizer, self.ema)
            if state.get("scaler"):
                wrapper.scaler.load_state_dict(state["scaler"])
            self.train_loop.start_at(state["step"])

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Without mmengine's survey of compilers, which takes seconds; versions are in every record instead."""

    def dump_config(self) -> None:
        """The run's `config.yaml` is written by `TrainConfig.write`."""


class LogFile(logging.FileHandler):
    """A log file whose errors (a full disk) are errors of the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise  # noqa: PLE0704


def run_logger(run: Path) -> logging.Logger:
    """Everything into `log.txt`, the essentials as plain lines on standard error (main process only)."""
    logger = logging.getLogger(f"gftzoo.run.{run.name}")
    logger.setLevel(logging.DEBUG if is_main_process() else logging.ERROR)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    if is_main_process():
        file = LogFile(run / "log.txt")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(file)
        families = logging.getLogger("gftzoo.family")  # what families have to say about how they run
        families.setLevel(logging.INFO)
        families.handlers = [file]
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.INFO)
    console.addFilter(lambda record: record.name == logger.name and not record.getMessage().startswith("Hooks will"))
    console.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(console)
    return logger


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
        raise UsageError(f"device {wanted!r} is not available here; use -o device=cpu or auto.") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return device


def initial_model(config: TrainConfig) -> Model:
    """The model at step 0: fresh, or from the weights the run starts from."""
    tokenizer, family = None, load_family(config.card.family)
    at_hand = config.tokenizer_path is not None or config.card.tokenizer.repo is None  # no download for sample grids
    if at_hand or not config.data.startswith("cache:") or family.options().reads_tokenizer:
        tokenizer = family.build_tokenizer(config.card.tokenizer, config.tokenizer_path)
    reseed("initialisation", config.seed)  # here, so that the network is the same without a tokenizer
    if config.weights is None:
        return Model.fresh(config.card, tokenizer)
    path, _ = resolve_weights(config.card, config.weights)
    return import_model(config.card, path, config.entry, tokenizer)


def refuse_other_start(model: Model, resume_from: Path, weights: str) -> None:
    """GftzooError if the weights that the run started from, which its objective needs again, are no longer the same."""
    _, then = read_card(resume_from)
    if then.get("sha256") != model.provenance.get("sha256"):
        raise GftzooError(
            f"the run started from {weights!r} with hash {str(then.get('sha256'))[:12]} and the file has now "
            f"{str(model.provenance.get('sha256'))[:12]}; its objective compares with those weights, put them back."
        )


def train(config: TrainConfig, run: Path, resume: bool = False) -> Path:
    """Trains as configured and returns the run's folder.

    Args:
        config: resolved by `gftzoo.engine.resolve`, or read from a run.
        run: folder for config.yaml, metrics.jsonl, log.txt, checkpoints/ and samples/; new unless `resume`.
        resume: go on from the newest complete checkpoint.

    Raises:
        GftzooError: the run does not fit into memory, its loss became non-finite, or a file could not be written.
    """
    with process_group(config), plain_failures(run):
        train_in_group(config, run, resume)
    return run


@contextmanager
def plain_failures(run: Path) -> Iterator[None]:
    """A full disk, or the end of another rank, as one sentence."""
    go_on = f"go on with `gftzoo train --resume {run}`"
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise GftzooError(f"the disk of {str(run)!r} is full ({error.strerror}); make room and {go_on}.") from error
    except RuntimeError as error:
        if not torch.distributed.is_initialized() or not LOST.search(str(error)):
            raise
        raise GftzooError(f"rank {get_dist_info()[0]} lost another rank, which ended before it; {go_on}.") from error


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOST = re.compile(r"closed by peer|reset by peer|timed out|timeout|NCCL|remote process|Broken pipe", re.IGNORECASE)


def train_in_group(config: TrainConfig, run: Path, resume: bool) -> None:
    """The run, on this rank."""
    refuse_missing(config)
    device = choose_device(config.device)
    source = open_source(config.data, split="train")
    source.check(config.card)
    source.check_processes(get_dist_info()[1], config.workers)
    cost = estimate.training_cost(config, get_dist_info()[1])
    cost.refuse_if_too_large(device)
    _prepare_folder(run, config, resume)
    runner = build_runner(config, run, source, device, cost.flops_per_image, resume)
    try:
        runner.train()
    finally:
        for hook in runner.hooks:
            if isinstance(hook, ProgressHook):
                hook.close()
        runner.visualizer.close()
    for problem in source.problems:
        runner.logger.info(f"skipped: {problem}")


def build_runner(
    config: TrainConfig, run: Path, source: Source, device: torch.device, flops_per_image: float | None, resume: bool
) -> ZooRunner:
    """The Runner of a run with everything built."""
    model = initial_model(config).to(device)
    source.check_model(model)
    resume_from = checkpoint.newest(run) if resume else None
    objective = build_objective(config.objective, config.objective_options)
    if resume_from is not None and objective.copies:
        refuse_other_start(model, resume_from, str(config.weights))
    objective.prepare(model)
    ema_network = model.network
    wrapped = parallelize(TrainingModel(model, objective, config.seed), config, device)
    ema = EMA(ema_network, config.ema_decay, config.ema_warmup) if config.ema_decay is not None else None
    groups = model.family.parameter_groups(model.network, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    dtype = choose_dtype(config.precision, device)
    hooks = _hooks(config, run, model, ema, source, device, flops_per_image)
    return ZooRunner(
        run=run,
        config=config,
        resume_from=resume_from,
        ema=ema,
        model=wrapped,
        train_dataloader=_dataloader(config, source),
        optim_wrapper=MixedPrecision(optimizer, config.accumulate, dtype, config.clip_norm, device),
        default_hooks=dict.fromkeys(DEFAULT_HOOKS),
        custom_hooks=hooks,
    )


# mmengine's own hooks; ours do their work in a way that resumes exactly and keeps safetensors.
DEFAULT_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")


def _hooks(
    config: TrainConfig,
    run: Path,
    model: Model,
    ema: EMA | None,
    source: Source,
    device: torch.device,
    flops_per_image: float | None,
) -> list[Any]:
    finite = FiniteHook()
    hooks = [
        ScheduleHook(config),
        *([EMAHook(ema)] if ema is not None else []),
        finite,
        ProgressHook(config, run, device, flops_per_image),
        CheckpointHook(config, run, model, ema, finite),
    ]
    # A sampler calls parts of the network, which only whole weights allow.
    sharded = torch.distributed.is_initialized() and config.parallel == "fsdp"
    if model.tokenizer is not None and not sharded:
        hooks.append(SampleHook(config, run, model, ema, grid_conditions(model, source)))
    return hooks


def grid_conditions(model: Model, source: Source) -> list[Any]:
    """The conditions of a sample grid: the first classes, or the first captions of the data."""
    if model.card.condition == "class":
        return list(range(model.card.classes))
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


def deaf_to_signals(_worker: int) -> None:
    """A signal to the whole job is for the main process, which still needs its workers until it has saved."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def end_workers() -> None:
    """Daemons end with their process; those that are deaf are killed, before multiprocessing waits for them."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def collated(batch: Any) -> Any:
    """`TrainingData` collates by itself, the whole batch at once."""
    return batch


def _prepare_folder(run: Path, config: TrainConfig, resume: bool) -> None:
    """The main process prepares the folder and the others wait for it."""
    problem: GftzooError | None = None
    try:
        if is_main_process():
            _make_folder(run, config, resume)
    except GftzooError as error:
        problem = error
    if any_rank(problem is not None):
        raise problem or GftzooError(f"the main process could not prepare the run folder {str(run)!r}.")


def _make_folder(run: Path, config: TrainConfig, resume: bool) -> None:
    if not resume and run.exists() and any(not path.name.startswith(f".{CONFIG_FILE}") for path in run.iterdir()):
        raise UsageError(f"run folder {str(run)!r} exists already; give another --name, or go on with --resume {run}.")
    checkpoint.sweep(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        config.write(run)
        (run / "log.txt").touch()
    except OSError as error:
        raise GftzooError(f"run folder {str(run)!r} cannot be written ({error.strerror or error}).") from error


def unused_name(folder: Path, stem: str) -> str:
    """`stem`, or `stem-2`, `stem-3`, ... if there are such runs already."""
    taken: Sequence[str] = [path.name for path in folder.glob(f"{stem}*")] if folder.is_dir() else []
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name
