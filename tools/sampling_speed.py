"""What sampling with GFT costs beside CFG, as ratios measured in one run; on a GPU images a second as well.

    python tools/sampling_speed.py dit-nano var-nano --batch 1 64
    python tools/sampling_speed.py dit-xl --depth 2 -s steps=4 --batch 1 16       # full width, on a CPU

Networks have random weights; texts are not encoded, nor latents decoded. GFT's and CFG's batches are drawn in turn,
several times, and the median of each is taken: of processor time on a CPU, so that a busy machine disturbs neither.
Rows are appended to the CSV with commit, device and versions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import csv_rows
import torch
from throughput import commit, random_tokenizer, where

import gftzoo
from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature
from gftzoo.documents import parse_value
from gftzoo.engine.parallel.place import choose_device
from gftzoo.engine.run.trace import example_conditions
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.precision import choose_dtype, name_of
from gftzoo.sampling import image_seeds
from gftzoo.zoo import get_card


@dataclass(frozen=True)
class Row:
    """One line of the CSV."""

    model: str
    network: str
    batch: int
    precision: str
    steps: str
    sampler: str
    gft_over_cfg: float | None
    gft_images_per_second: float | None
    cfg_images_per_second: float | None
    device: str
    commit: str
    gftzoo: str
    torch: str


@dataclass(frozen=True)
class Pair:
    """A model as GFT trains it and the plain one, with random weights.

    Attributes:
        network: what of it is not the card's, in words.
    """

    gft: Model
    plain: Model
    network: str

    @classmethod
    def build(cls, name: str, device: torch.device, depth: int | None = None, side: int | None = None) -> Pair:
        """Both models of a name, with so many blocks of each kind, and pixels a side, where these are given."""
        card = get_card(name)
        network = {**card.network, **card.recipes["gft"].network}
        for key in ("depth", "head_depth", "part_depth") if depth else ():
            if key in network:
                network[key] = min(depth or 0, network[key])
        card = card.change(network=network, resolution=side or card.resolution)
        gft, plain = (random_model(card.change(temperature=steered), device) for steered in (True, False))
        told = [f"depth {depth}"] * bool(depth) + [f"{side} px"] * bool(side)
        return cls(gft, plain, " ".join(told))

    def compiled(self) -> Pair:
        """The same networks, compiled from now on."""
        return replace(self, gft=self.gft.compile(), plain=self.plain.compile())


def random_model(card: ModelCard, device: torch.device) -> Model:
    """A model whose weights are random, those that start at zero too: what is computed is no special case."""
    torch.manual_seed(0)
    with device:
        network = load_family(card.family).build_network(card)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    family = AnyPrompt(card.family) if card.condition == "text" else load_family(card.family)
    return Model(card, network, random_tokenizer(card), family).to(device)


class AnyPrompt(Family):
    """A family whose prompts are ones, of the shape that its text encoders give: they take no part in the steps."""

    def __init__(self, name: str) -> None:
        super().__init__(name, load_family(name).manager)

    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> torch.Tensor:
        like = super().encode_condition(replace(model, placed=torch.device("meta")), conditions)
        return torch.ones_like(like, device=model.device)

    def condition_drop(self, model: Model, condition: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        return condition


def drawing(model: Model, guidance: Guidance, batch: int, settings: dict[str, Any]) -> Callable[[], object]:
    conditions, seeds = example_conditions(model.card, batch), image_seeds(0, range(batch))
    return lambda: model.sample_latents(conditions, guidance, seeds, **settings)


def seconds(jobs: Sequence[Callable[[], object]], rounds: int, device: torch.device) -> list[float]:
    """Median seconds of each job, run in turn, after a round to warm up."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    taken: list[list[float]] = [[] for _ in jobs]
    for turn in range(rounds + 1):
        for job, found in zip(jobs, taken, strict=True):
            begin = clock()
            job()
            if on_gpu:
                torch.cuda.synchronize()
            if turn:
                found.append(clock() - begin)
    return [statistics.median(found) for found in taken]


def measure(
    pair: Pair,
    batches: Sequence[int],
    rounds: int,
    settings: dict[str, Any],
    device: torch.device,
    steps: str = "eager",
) -> Iterator[Row]:
    """A row for each batch size, in the precision of the pair's models."""
    for batch in batches:
        jobs = [
            drawing(pair.gft, Temperature(0.5), batch, settings),
            drawing(pair.plain, ClassifierFree(2.0), batch, settings),
        ]
        gft, cfg = seconds(jobs, rounds, device)
        rates = [round(batch / found, 2) if device.type == "cuda" else None for found in (gft, cfg)]
        yield Row(
            pair.gft.card.name, pair.network, batch, name_of(pair.gft.half), steps,
            " ".join(f"{key}={value}" for key, value in settings.items()), round(gft / cfg, 3), *rates,
            where(device), commit(), gftzoo.__version__, torch.__version__,
        )  # fmt: skip


def show(row: Row) -> None:
    rates = "" if row.gft_images_per_second is None else f"  {row.gft_images_per_second:.1f} images/s with GFT"
    print(
        f"{row.model:18} {row.network:14} batch {row.batch:4}  {row.precision} {row.steps:9} "
        f"GFT {row.gft_over_cfg:.3f} of CFG{rates}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--depth", type=int, help="blocks, where the card's are too many for this machine")
    parser.add_argument("--resolution", type=int, help="pixels a side, likewise")
    parser.add_argument("-s", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32", choices=["auto", "bf16", "fp16", "fp32"])
    parser.add_argument("--compile", action="store_true", help="also the compiled steps")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("docs/results/sampling-speed.csv"))
    job = parser.parse_args()
    torch.set_num_threads(1)
    device = choose_device(job.device)
    settings = {key: parse_value(value, key) for key, _, value in (pair.partition("=") for pair in job.settings)}
    for name in job.models:
        pair = Pair.build(name, device, job.depth, job.resolution)
        for model in (pair.gft, pair.plain):
            model.half = choose_dtype(job.precision, device)
        for steps in ("eager", *(["compiled"] if job.compile else [])):
            pair = pair.compiled() if steps == "compiled" else pair
            for row in measure(pair, job.batch, job.rounds, settings, device, steps):
                show(row)
                csv_rows.append(row, job.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
