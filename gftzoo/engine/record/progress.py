"""What a run tells while it goes: a progress bar on a terminal, plain lines elsewhere, metrics.jsonl always."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gftzoo.atomic import written_whole
from gftzoo.documents import VALUE, parse_json
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.parallel.gpus import peak_of
from gftzoo.errors import GftzooError
from gftzoo.group import is_main_process, rank_and_world
from gftzoo.systems import peak_of_process

GIB = 2**30
METRICS = "metrics.jsonl"


def peak_memory(device: torch.device) -> float:
    """The most memory held so far, GiB: of the GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return peak_of_process() / GIB


def mean_over_ranks(value: torch.Tensor) -> float:
    """The mean of a scalar over all ranks (every rank must call it)."""
    if torch.distributed.is_initialized():
        value = value.clone()
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return float(value)


def forget_after(metrics: Path, step: int) -> None:
    """Leaves the lines up to `step`, where a resumed run goes on; later ones, or half of one, are written again."""
    if not metrics.is_file():
        return
    kept = [line for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines() if _upto(line, step)]
    with written_whole(metrics) as partial:
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _upto(line: str, step: int) -> bool:
    try:
        return int(parse_json(line, METRICS, VALUE)["step"]) <= step
    except (GftzooError, ValueError, KeyError, TypeError, OverflowError):
        return False


class ProgressHook(Hook):
    """Loss, rate, gradient norm, images/s, model FLOPs utilisation and peak memory, every `log_every` steps."""

    priority = "BELOW_NORMAL"

    def __init__(self, config: TrainConfig, run: Path, device: torch.device, flops_per_image: float | None) -> None:
        self.config, self.run, self.device = config, run, device
        self.flops_per_image = flops_per_image
        self.bar: Progress | None = None

    def before_train(self, runner: Any) -> None:
        self.since, self.since_step = time.perf_counter(), runner.iter
        if is_main_process():
            forget_after(self.run / METRICS, runner.iter)
        if is_main_process() and sys.stderr.isatty():
            columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[numbers]}"), console=Console(stderr=True))
            self.bar.start()
            task = f"training {self.config.model}"
            self.task = self.bar.add_task(task, total=self.config.steps, completed=runner.iter, numbers="")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step = runner.iter + 1
        due = step % self.config.log_every == 0 or step == self.config.steps
        loss = mean_over_ranks(outputs["loss"]) if due else 0.0
        if not is_main_process():
            return
        if due:
            self._record(runner, step, loss)
        elif self.bar is not None:
            self.bar.update(self.task, completed=step)

    def _record(self, runner: Any, step: int, loss: float) -> None:
        seconds = time.perf_counter() - self.since
        images = (step - self.since_step) * self.config.batch_size
        numbers = {
            "loss": loss,
            "lr": runner.optim_wrapper.param_groups[0]["lr"],
            "grad_norm": float(runner.optim_wrapper.grad_norm),
            "images_per_second": images / max(seconds, 1e-9),
            "peak_memory_gib": peak_memory(self.device),
        }
        if self.flops_per_image:
            achieved = numbers["images_per_second"] * self.flops_per_image / rank_and_world()[1]
            numbers["teraflops_per_device"] = achieved / 1e12
            peak = peak_flops(self.device)
            if peak:
                numbers["mfu"] = achieved / peak
        with (self.run / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in numbers.items()}}) + "\n")
        runner.visualizer.add_scalars(numbers, step=step)
        self._tell(runner, step, numbers)
        self.since, self.since_step = time.perf_counter(), step

    def _tell(self, runner: Any, step: int, numbers: dict[str, float]) -> None:
        mfu = f"  mfu {numbers['mfu']:.1%}" if "mfu" in numbers else ""
        text = (
            f"loss {numbers['loss']:.4f}  lr {numbers['lr']:.2e}  grad {numbers['grad_norm']:.3g}  "
            f"{numbers['images_per_second']:.1f} images/s{mfu}  {numbers['peak_memory_gib']:.2f} GiB"
        )
        if self.bar is not None:
            self.bar.update(self.task, completed=step, numbers=text)
            runner.logger.debug(f"step {step}/{self.config.steps}  {text}")
        else:
            runner.logger.info(f"step {step}/{self.config.steps}  {text}")

    def after_train(self, runner: Any) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bf16 peak in FLOP/s, where it is known."""
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device))
