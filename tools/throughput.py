"""What training runs at on one device: images/s, model FLOPs utilisation, peak memory and the cost of GFT.

    python tools/throughput.py                                             # a GPU: four models, under five minutes
    python tools/throughput.py --models dit-nano --device cpu --batch 8 --seconds 1

Each model trains plain and with GFT, eager and with its blocks compiled, in bf16, at its own resolution with everything
that belongs to a step: the draws of noise and temperature, both passes, the optimizer and the average. Latents (codes)
are random ones of the right shape and already on the device, as if from a cache: images and their encoding are left
out. Rows are appended to the CSV with commit, device and versions.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import csv_rows
import torch

import gftzoo
from gftzoo.adapters import freeze
from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.engine import Job, TrainConfig, resolve
from gftzoo.engine.parallel.place import Place, choose_place
from gftzoo.engine.record.progress import GIB, peak_flops, peak_memory
from gftzoo.engine.run import estimate, trace
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.module import TrainingModel
from gftzoo.engine.step.optimizer import MixedPrecision
from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.precision import choose_dtype
from gftzoo.zoo import catalogue, get_card

MODELS = ("dit-xl", "var-d16", "llamagen-l", "mar-b")
BATCHES = (256, 128, 64, 32, 16, 8, 4, 2)
SHARE = 0.85  # of the free memory that a batch may be expected to take
PLAIN: dict[tuple[str, str], float] = {}  # seconds of a step without GFT, by model and way


@dataclass(frozen=True)
class Row:
    """One line of the CSV."""

    model: str
    objective: str
    blocks: str
    precision: str
    batch: int
    images_per_second: float
    mfu: float | None
    teraflops: float | None
    peak_memory_gib: float
    expected_memory_gib: float
    seconds_per_step: float
    over_plain: float | None
    latents: str
    device: str
    commit: str
    gftzoo: str
    torch: str
    cuda: str


class Bench:
    """One model under one objective, with all that a step needs."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        card = config.card
        self.config, self.device, self.done = config, device, 0
        with device:
            self.model = Model.fresh(card, random_tokenizer(card)).to(device)
        freeze(self.model, config.train, config.lora)
        self.model.network.to(device)
        objective = build_objective(config.objective, config.objective_options)
        objective.prepare(self.model)
        self.trained = TrainingModel(self.model, objective, seed=0).train()
        assert config.ema_decay is not None
        self.ema = EMA(self.model.network, config.ema_decay)
        groups = self.model.family.parameter_groups(self.model.network, config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=1e-5, betas=config.betas)
        self.wrapper = MixedPrecision(
            optimizer, 1, config.clip_norm, Place(device, choose_dtype(config.precision, device))
        )
        self.wrapper.initialize_count_status(self.trained, 0, 10**9)
        self.batch = random_batch(self.model, config.batch_size, device)

    def step(self) -> None:
        first = self.done * self.config.batch_size
        positions = torch.arange(first, first + self.config.batch_size)
        self.trained.train_step({**self.batch, "position": positions}, self.wrapper, self.trained)
        self.ema.update(self.done)
        self.done += 1

    def compile(self) -> None:
        for block in self.model.family.blocks(self.model.network):
            block.compile()


def random_batch(model: Model, size: int, device: torch.device) -> dict[str, Any]:
    """Latents or codes of the right shape, and conditions."""
    like = trace.example_latents(model.card, size)
    stream = torch.Generator().manual_seed(0)
    if like.is_floating_point():
        latents = torch.randn(like.shape, generator=stream)
    else:
        latents = torch.randint(model.card.tokenizer.codebook or 1, like.shape, generator=stream)
    with torch.no_grad():
        condition = model.encode_condition(trace.example_conditions(model.card, size))
    return {"latents": latents.to(device), "condition": condition}


def random_tokenizer(card: ModelCard) -> Tokenizer | None:
    """The tokenizer with random weights, for a family whose training step calls it (it has the same cost)."""
    family = load_family(card.family)
    if not family.options().reads_tokenizer:
        return None
    nano = get_card(str(catalogue().families[card.family].nano))
    # Of the card's tokenizer what its codes are; what else the published one needs is not built. Where a code is a
    # patch of pixels, one pixel of as many colours has as many numbers as the published code vector.
    own = {"kind": nano.tokenizer.kind, "options": nano.tokenizer.options}
    spec = card.tokenizer.model_copy(update={**own, "downsample": 1, "image_channels": card.tokenizer.channels})
    return type(family.build_tokenizer(nano.tokenizer))(spec)


def configuration(name: str, objective: str, batch: int, precision: str) -> TrainConfig:
    """The model's recipe at its own resolution, tokenizer and classes; of `gft, lora` with adapters."""
    objective, _, way = objective.partition(", ")
    recipe = resolve(name, objective=objective, options={"precision": precision})
    card = get_card(name)
    card = local(card.change(temperature=recipe.card.temperature, network=own_network(card, recipe.card)))
    own = {"card": card, "batch_size": batch, "accumulate": 1, "ema_decay": recipe.ema_decay or 0.9999}
    return recipe.model_copy(update={**own, "train": way or "all"})


def own_network(card: ModelCard, resolved: ModelCard) -> dict[str, Any]:
    """The network as a recipe has it, on the card's own codes: what a demonstration's codes decide is taken back."""
    of_codes = load_family(card.family).options().of_codes
    kept = {name: value for name, value in resolved.network.items() if name not in of_codes}
    return {**kept, **{name: card.network[name] for name in of_codes if name in card.network}}


def local(card: ModelCard) -> ModelCard:
    """A card whose text encoder is here: the nano model's, whose features are filled up to the network's width."""
    if card.text_encoder is None:
        return card
    return card.change(text_encoder=get_card(catalogue().families[card.family].nano).text_encoder)


def largest_batch(name: str, precision: str, device: torch.device) -> int:
    """The largest batch whose expected memory leaves some room, on a CPU at most 8."""
    room = SHARE * estimate.available_bytes(device)
    for batch in BATCHES if device.type == "cuda" else BATCHES[-3:]:
        job = Job(configuration(name, "gft", batch, precision))
        if estimate.training_cost(job, choose_place(str(device), precision)).step_bytes < room:
            return batch
    return 1


def seconds_per_step(bench: Bench, seconds: float, device: torch.device) -> float:
    """The median of steps, after three to warm up."""
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(3):
        bench.step()
    wait()
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < 3:
        begin = time.perf_counter()
        bench.step()
        wait()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def measure(
    name: str,
    objective: str,
    batch: int,
    precision: str,
    device: torch.device,
    seconds: float,
    ways: Sequence[str] = ("eager", "compiled"),
) -> Iterator[Row]:
    """The rows of one model and objective; `conditional` comes first, since the others are compared with it."""
    config = configuration(name, objective, batch, precision)
    cost = estimate.training_cost(Job(config), choose_place(str(device), precision))
    bench = Bench(config, device)
    for blocks in ways:
        if blocks == "compiled":
            bench.compile()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step = seconds_per_step(bench, seconds, device)
        if objective == "conditional":
            PLAIN[name, blocks] = step
        plain = PLAIN.get((name, blocks))
        rate, peak = batch / step, peak_flops(device)
        achieved = rate * cost.flops_per_image if cost.flops_per_image else None
        yield Row(
            name, objective, blocks, precision, batch, round(rate, 2),
            round(achieved / peak, 4) if achieved and peak else None,
            round(achieved / 1e12, 3) if achieved else None,
            round(peak_memory(device), 3), round(cost.total_bytes(device) / GIB, 3), round(step, 5),
            round(step / plain, 3) if objective != "conditional" and plain else None,
            "random, cached", where(device), commit(), gftzoo.__version__,
            torch.__version__, torch.version.cuda or "",
        )  # fmt: skip
    del bench
    if device.type == "cuda":
        torch.cuda.empty_cache()


def where(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"


def commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def show(row: Row) -> None:
    mfu = f"{row.mfu:6.1%}" if row.mfu is not None else "   ---"
    ratio = f"  x{row.over_plain:.2f} of plain" if row.over_plain else ""
    print(
        f"{row.model:12} {row.objective:11} {row.blocks:8} batch {row.batch:3}  {row.images_per_second:8.1f} images/s  "
        f"MFU {mfu}  {row.peak_memory_gib:6.2f} GiB{ratio}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--batch", type=int, help="images per step; default: the largest that should fit")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured for each row, after warming up")
    parser.add_argument("--out", type=Path, default=Path("docs/results/throughput.csv"))
    arguments = parser.parse_args()
    device = choose_place(arguments.device, "auto").device
    begin = time.perf_counter()
    for name in arguments.models:
        batch = arguments.batch or largest_batch(name, arguments.precision, device)
        for objective in ("conditional", "gft"):
            for row in measure(name, objective, batch, arguments.precision, device, arguments.seconds):
                show(row)
                csv_rows.append(row, arguments.out)
    print(f"{time.perf_counter() - begin:.0f} s in all; rows appended to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
