"""Whether a run that is made to fit a small device trains what one on a large device does.

    python tools/fit_check.py --model dit-b --batch 256 --gib 4 --out docs/results/fit.csv

Both train the same steps from the same seed, without an option about memory, each in a process of its own; the second
is told that only so much is free. The CSV has how each took its batch, the most that its process held beyond what it
held before, and how far apart their weights are; it fails where that is more than rounding, or where the small one held
more than it was told.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import csv_rows
import psutil
import torch
from safetensors.torch import load_file

from gftzoo.engine import TrainConfig, checkpoints, resolve, train
from gftzoo.engine.record.progress import peak_memory
from gftzoo.engine.run import estimate

ROUNDING = 0.1  # of the rate: Adam's first steps divide gradients by their own size, and with them their rounding


@dataclass(frozen=True)
class Row:
    """One line of the CSV: a run on a device with so much free, against the first."""

    model: str
    batch: int
    steps: int
    free_gib: float
    micro_batch: int
    recomputed: bool
    held_gib: float
    mean_apart_over_rate: float
    most_apart_over_rate: float


def run(config: TrainConfig, folder: Path, gib: float | None) -> tuple[float, float]:
    """Trains where so much is free, or as much as there is: GiB that were free, and that the run held."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    free = estimate.available_bytes(cpu) if gib is None else gib * estimate.GIB
    estimate.available_bytes = lambda _: free
    before = psutil.Process().memory_info().rss / estimate.GIB
    train(config, folder)
    return free / estimate.GIB, peak_memory(cpu) - before


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The raw weights at the end of a run."""
    newest = checkpoints.newest(folder)
    assert newest is not None
    return load_file(newest / "raw.safetensors")


def configured(model: str, batch: int, steps: int) -> TrainConfig:
    """The demonstration of a model, with a batch of its recipe's size, and pictures of two steps of the sampler."""
    options = {"batch_size": batch, "sample_grid": [1, 1], "log_every": 1}
    config = resolve(model, objective="gft", steps=steps, options=options)
    card = config.card.change(sampler={**config.card.sampler, "steps": 2})
    return config.model_copy(update={"card": card})


def measure(config: TrainConfig, gibs: list[float | None]) -> list[Row]:
    """A row for each device."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, gib in enumerate(gibs):
            place = Path(folder) / str(number)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                free, held = pool.apply(run, (config, place, gib))
            taken, first, found = TrainConfig.read(place), weights(Path(folder) / "0"), weights(place)
            apart = torch.cat([(first[name] - found[name]).abs().flatten() for name in first]) / config.lr
            rows.append(Row(
                config.model, config.batch_size, config.steps, round(free, 1),
                taken.batch_size // taken.accumulate, taken.activation_checkpointing, round(held, 2),
                float(f"{apart.double().mean():.2g}"), float(f"{apart.max():.2g}"),
            ))  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dit-b")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--gib", type=float, default=4.0, help="what the small device has free")
    parser.add_argument("--out", type=Path, default=Path("docs/results/fit.csv"))
    job = parser.parse_args()
    rows = measure(configured(job.model, job.batch, job.steps), [None, job.gib])
    csv_rows.write(rows, job.out)
    small = rows[-1]
    return 0 if small.most_apart_over_rate < ROUNDING and small.held_gib < job.gib else 1


if __name__ == "__main__":
    sys.exit(main())
