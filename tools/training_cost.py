"""What an update of each objective costs: forward passes, time and memory, as in the paper's table 1.

    python tools/training_cost.py --out docs/results/training-cost.csv

For the nano model of every installed family (or the models named) each objective that the family supports takes updates
in turn, in one process on one thread; the median counts. Time is the thread's own, so that other work on the machine
does not count (on a GPU: the time until it is idle). Memory is weights, optimizer state, frozen copies and the largest
sum of what an update allocates beside them. GFT is 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import csv_rows
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gftzoo.contract.objective import Objective
from gftzoo.data import TrainingData, open_source
from gftzoo.engine import TrainConfig, resolve
from gftzoo.errors import UsageError
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo.model import Model
from gftzoo.objectives import BUILT_IN, build_objective, refuse_unfit
from gftzoo.zoo import catalogue

PAPER = {"gft": (1.00, 1.00), "distill": (1.19, 1.15), "cca": (1.69, 1.39)}  # time, memory: arXiv 2501.15420, table 1


@dataclass(frozen=True)
class Row:
    """One line of the CSV; passes are per sample and update."""

    model: str
    objective: str
    passes_with_gradient: float
    passes_without_gradient: float
    seconds: float
    time_ratio: float
    memory_bytes: int
    memory_ratio: float
    paper_time_ratio: float | None
    paper_memory_ratio: float | None
    batch: int
    updates: int
    device: str
    torch: str


class Update:
    """One model under one objective, ready to take updates on a fixed batch of real data."""

    def __init__(self, config: TrainConfig, objective: Objective, batch: int, device: str) -> None:
        family = load_family(config.card.family)
        self.model = Model.fresh(config.card, family.build_tokenizer(config.card.tokenizer)).to(device)
        self.model.network.train()
        self.objective = objective
        objective.prepare(self.model)
        self.optimizer = torch.optim.AdamW(self.model.network.parameters(), lr=1e-5)
        images, self.condition = first_batch(config, self.model, batch)
        self.latents = self.model.require_tokenizer().encode(images.to(device))
        self.batch, self.count = batch, 0

    def __call__(self) -> None:
        self.count += 1
        positions = range(self.count * self.batch, (self.count + 1) * self.batch)
        generator = SampleGenerator.for_samples("cost", 0, positions, self.model.device)
        problem = self.model.family.draw_problem(self.model, self.latents, generator)
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.loss(self.model, problem, self.condition, generator).mean().backward()
        self.optimizer.step()

    def standing_bytes(self) -> int:
        """Weights, the optimizer's state and frozen copies."""
        weights = sum(p.numel() * p.element_size() for p in self.model.network.parameters())
        moments = sum(
            value.numel() * value.element_size()
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        return weights * (1 + self.objective.copies) + moments


def first_batch(config: TrainConfig, model: Model, batch: int) -> tuple[Tensor, Tensor]:
    """Images in [-1, 1] and encoded conditions of the data's first samples."""
    source = open_source(config.data, split="train")
    card = config.card
    data = TrainingData(source, resolution=card.resolution, channels=card.tokenizer.image_channels, seed=0)
    found = data.__getitems__([(i % len(source), i) for i in range(batch)])
    condition = found["condition"]
    encoded = condition if isinstance(condition, Tensor) else model.encode_condition(condition)
    return found["images"].float() / 127.5 - 1, encoded.to(model.device)


@contextmanager
def counted(model: Model) -> Iterator[dict[bool, int]]:
    """Samples that the family predicts meanwhile, by whether there is a gradient."""
    rows = {True: 0, False: 0}
    predict = model.family.prediction  # which `predict` calls too

    def counting(model: Model, problem: Any, condition: Tensor, beta: Tensor | None) -> Prediction:
        rows[torch.is_grad_enabled()] += len(condition)
        return predict(model, problem, condition, beta)

    model.family.prediction = counting  # type: ignore[method-assign]
    try:
        yield rows
    finally:
        model.family.prediction = predict  # type: ignore[method-assign]


def allocated_peak(update: Any) -> int:
    """The largest sum of bytes that one update holds beside what stands anyway."""
    if update.model.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        update()
        return torch.cuda.max_memory_allocated() - before
    update.optimizer.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        update()
    held = peak = 0
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def timed(update: Callable[[], None], device: str) -> float:
    clock = time.perf_counter if device.startswith("cuda") else time.thread_time
    begin = clock()
    update()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return clock() - begin


def supported(name: str, batch: int | None, device: str) -> dict[str, Update]:
    """An update of every objective that the model's family supports."""
    found: dict[str, Update] = {}
    for objective_name in BUILT_IN:
        config = resolve(name, objective=objective_name if not BUILT_IN[objective_name].copies else "conditional")
        config = config.model_copy(
            update={"card": config.card.change(temperature=BUILT_IN[objective_name].temperature)}
        )
        objective = build_objective(objective_name)
        try:
            refuse_unfit(objective, load_family(config.card.family), config.card, "its own start")
        except UsageError:
            continue
        torch.manual_seed(0)
        found[objective_name] = Update(config, objective, batch or config.batch_size, device)
    return found


def measure(name: str, updates: int, batch: int | None, device: str) -> list[Row]:
    """The rows of one model."""
    jobs = supported(name, batch, device)
    for job in jobs.values():  # warm up: the optimizer's state and kernels' choices
        job()
    memory = {key: job.standing_bytes() + allocated_peak(job) for key, job in jobs.items()}
    seconds: dict[str, list[float]] = {key: [] for key in jobs}
    passes = {key: {True: 0, False: 0} for key in jobs}
    for _ in range(updates):
        for key, job in jobs.items():
            with counted(job.model) as rows:
                seconds[key].append(timed(job, device))
            for graded, count in rows.items():
                passes[key][graded] += count
    median = {key: statistics.median(values) for key, values in seconds.items()}
    where = torch.cuda.get_device_name() if device.startswith("cuda") else "one CPU thread"
    return [
        Row(
            name, key,
            *(round(passes[key][graded] / (updates * job.batch), 3) for graded in (True, False)),
            round(median[key], 5), round(median[key] / median["gft"], 3),
            memory[key], round(memory[key] / memory["gft"], 3),
            *PAPER.get(key, (None, None)), job.batch, updates, where, torch.__version__.partition("+")[0],
        )
        for key, job in jobs.items()
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="default: the nano model of every family")
    parser.add_argument("--updates", type=int, default=15)
    parser.add_argument("--batch", type=int, help="samples per update; default: the recipe's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/results/training-cost.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in arguments.models or [entry.nano for entry in catalogue().families.values() if entry.nano]:
        for row in measure(name, arguments.updates, arguments.batch, arguments.device):
            print(
                f"{row.model:14} {row.objective:12} {row.passes_with_gradient:g} + {row.passes_without_gradient:<5g} "
                f"time x{row.time_ratio:.2f}  memory x{row.memory_ratio:.2f}",
                flush=True,
            )
            rows.append(row)
    csv_rows.write(rows, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
