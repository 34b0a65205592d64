"""What a step of a temperature adapter costs, against inference (memory) and a step of the whole model (time).

    python tools/adapter_cost.py dit-b:4 llamagen-nano:64 --out docs/results/adapter-cost.csv
    python tools/adapter_cost.py dit-xl:4 --ways temperature "in parts"      # memory alone, without the whole model

A case is a model, of its own size, and a batch size. In one process on one thread a model with a slope predicts a batch
of random latents without gradient; the whole model (`all`, the published temperature), factors of LoRA's and a slope
alone take updates under GFT, and medians count; `in parts` is a slope with activation checkpointing. Time is the
thread's own, so that other work on the machine does not count (on a GPU: the time until it is idle). Memory is weights,
optimizer state and the largest sum of what is allocated beside.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import csv_rows
import torch
from throughput import local, random_tokenizer
from torch import Tensor
from training_cost import allocated_peak, timed

from gftzoo.adapters import Way, freeze, slope_shape
from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.problem import Problem
from gftzoo.engine.run.trace import example_conditions, example_latents
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import checkpoint_slopes
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.zoo import catalogue, get_card

WAYS: dict[str, Way] = {"all": "all", "lora": "lora", "temperature": "temperature", "in parts": "temperature"}


@dataclass(frozen=True)
class Row:
    """One line of the CSV; ratios are to inference for memory and to `train=all` for time."""

    model: str
    train: str
    parameters: int
    trained: int
    memory_bytes: int
    memory_ratio: float
    seconds: float
    time_ratio: float | None
    batch: int
    updates: int
    device: str
    torch: str


class Job:
    """A model of the card's own size, resolution and tokenizer, and a batch of random latents and conditions."""

    def __init__(self, card: ModelCard, batch: int, device: str, temperature: bool = True) -> None:
        torch.manual_seed(0)
        card = local(card)
        spec = card.tokenizer
        tokenizer = random_tokenizer(card) if spec.repo else load_family(card.family).build_tokenizer(spec)
        self.model = Model.fresh(card.change(temperature=temperature), tokenizer).to(device)
        latents = example_latents(card, batch)
        values = torch.randn(latents.shape) if spec.codebook is None else torch.randint(spec.codebook, latents.shape)
        self.latents = values.to(device)
        self.condition = self.model.encode_condition(example_conditions(card, batch))
        self.generator = SampleGenerator.for_samples("cost", 0, range(batch), self.model.device)
        self.optimizer = torch.optim.AdamW(self.model.network.parameters(), lr=1e-5)

    def problem(self) -> Problem:
        return self.model.family.draw_problem(self.model, self.latents, self.generator)

    def standing_bytes(self) -> int:
        """Weights and the optimizer's state."""
        state = [v for values in self.optimizer.state.values() for v in values.values() if isinstance(v, Tensor)]
        return sum(t.numel() * t.element_size() for t in (*self.model.network.parameters(), *state))


class Step(Job):
    """One way to train, ready to take updates."""

    def __init__(self, card: ModelCard, way: Way, batch: int, device: str) -> None:
        super().__init__(card, batch, device)
        self.objective = build_objective("gft", {"p_drop": 0.0} if way == "temperature" else {})
        freeze(self.model, way)
        self.model.network.to(device).train(way != "temperature")
        trained = [p for p in self.model.network.parameters() if p.requires_grad]
        self.trained = sum(p.numel() for p in trained)
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.loss(self.model, self.problem(), self.condition, self.generator).mean().backward()
        self.optimizer.step()


class Inference(Job):
    """The adapted model's prediction of a batch, without gradient."""

    @torch.no_grad()
    def __call__(self) -> None:
        beta = torch.full((len(self.latents),), 0.5, device=self.model.device)
        self.model.network.eval()
        self.model.family.predict(self.model, self.problem(), self.condition, beta)


def measure(name: str, batch: int, ways: Sequence[str], updates: int, device: str) -> list[Row]:
    """The rows of one model."""
    card = get_card(name)
    affine = card.change(network={**card.network, **slope_shape(card, load_family(card.family))})
    inference = Inference(affine, batch, device)
    inference()
    floor = inference.standing_bytes() + allocated_peak(inference)
    del inference
    found: dict[str, tuple[int, int, int, float]] = {}
    for label in ways:
        way = WAYS[label]
        job = Step(affine if way == "temperature" else card, way, batch, device)
        if label == "in parts":
            checkpoint_slopes(job.model.network)
        job()  # warm up: the optimizer's state and kernels' choices
        memory = job.standing_bytes() + allocated_peak(job)
        count = sum(p.numel() for p in job.model.network.parameters())
        found[label] = count, job.trained, memory, median_time(job, updates, device)
        del job
    where = torch.cuda.get_device_name() if device.startswith("cuda") else "one CPU thread"
    return [
        Row(
            name, label, count, trained, memory, round(memory / floor, 3),
            round(seconds, 5), round(seconds / found["all"][3], 3) if "all" in found else None,
            batch, updates, where, torch.__version__.partition("+")[0],
        )
        for label, (count, trained, memory, seconds) in found.items()
    ]  # fmt: skip


def median_time(job: Callable[[], None], updates: int, device: str) -> float:
    return statistics.median(timed(job, device) for _ in range(updates))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="MODEL:BATCH; default: the nano model of every family, 64 each")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what is measured")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/results/adapter-cost.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for case in arguments.cases or [f"{entry.nano}:64" for entry in catalogue().families.values() if entry.nano]:
        name, _, batch = case.partition(":")
        for row in measure(name, int(batch or 64), arguments.ways, arguments.updates, arguments.device):
            time = f"  time x{row.time_ratio:.2f} of all" if row.time_ratio else ""
            print(
                f"{row.model:14} {row.train:12} trains {row.trained / row.parameters:6.1%} "
                f"memory x{row.memory_ratio:.2f} of inference{time}",
                flush=True,
            )
            rows.append(row)
        csv_rows.write(rows, arguments.out)  # after each case: a later one may fail
    return 0


if __name__ == "__main__":
    sys.exit(main())
