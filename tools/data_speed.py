"""How much faster data is fed than a model consumes it: from a cache, and from images through the tokenizer's input.

    python tools/data_speed.py dit-nano --workers 2 --out docs/results/data-speed.csv

Encodes the model's embedded data into a temporary cache, then measures alternately, in one process, how many images a
second the loader's batches hold and how many a second GFT's training steps take. Medians; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import gftzoo
from gftzoo.data import Layout, Source, open_source, training_data
from gftzoo.data.caching import CacheWriter
from gftzoo.data.encoding import EncodingModel
from gftzoo.data.planning import plan_cache
from gftzoo.engine import TrainConfig, resolve
from gftzoo.engine.step.module import TrainingModel
from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.objectives import build_objective


def write_cache(config: TrainConfig, folder: Path) -> Source:
    """The cache of a run's data."""
    family = load_family(config.card.family)
    tokenizer = family.build_tokenizer(config.card.tokenizer)
    model, source = EncodingModel(config.card, tokenizer, family, torch.device("cpu")), open_source(config.data)
    CacheWriter(model, source, plan_cache(model, source), folder).run()
    return open_source(f"cache:{folder}")


def endless_batches(config: TrainConfig, source: Source, batch: int, workers: int) -> Iterator[Any]:
    """The batches of a run, as its loader gives them."""
    card = config.card
    dataset, sampler = training_data(
        source,
        resolution=card.resolution,
        channels=card.tokenizer.image_channels,
        seed=config.seed,
        hflip=config.hflip,
        layout=Layout(1, max(workers, 1), batch),
    )
    loader = DataLoader(dataset, batch_size=batch, sampler=sampler, num_workers=workers, collate_fn=lambda b: b)
    return iter(loader)


def training_step(config: TrainConfig, batch: Any) -> Callable[[], None]:
    """One update on a batch that is already there."""
    trained = TrainingModel(Model.fresh(config.card), build_objective("gft"), seed=0)
    optimizer = torch.optim.AdamW(trained.network.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        trained(**batch).backward()
        optimizer.step()

    return step


def images_per_second(job: Callable[[], object], batch: int, seconds: float) -> float:
    """The rate of a job that handles `batch` images, repeated for so long."""
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        job()
        done += batch
    return done / (time.perf_counter() - begin)


def measure(config: TrainConfig, batch: int, workers: int, rounds: int, seconds: float) -> dict[str, float]:
    """Median images per second of each way to feed, and of training."""
    with tempfile.TemporaryDirectory() as folder:
        cache = write_cache(config, Path(folder) / "cache")
        feeds = {
            f"cache, {workers} workers": endless_batches(config, cache, batch, workers),
            "cache, no worker": endless_batches(config, cache, batch, 0),
            f"images, {workers} workers": endless_batches(config, open_source(config.data), batch, workers),
        }
        jobs: dict[str, Callable[[], object]] = {name: lambda feed=feed: next(feed) for name, feed in feeds.items()}
        jobs["training"] = training_step(config, next(feeds["cache, no worker"]))
        rates: dict[str, list[float]] = {name: [] for name in jobs}
        for turn in range(rounds + 1):  # the first warms up
            for name, job in jobs.items():
                rate = images_per_second(job, batch, seconds)
                if turn:
                    rates[name].append(rate)
        return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="dit-nano")
    parser.add_argument("--batch", type=int, help="default: the recipe's")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--out", type=Path, help="CSV file to append to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = resolve(arguments.model, objective="gft")
    batch = arguments.batch or config.batch_size
    rates = measure(config, batch, arguments.workers, arguments.rounds, arguments.seconds)
    print(f"{arguments.model}, batch {batch}, one thread for training; images/s, medians of {arguments.rounds} rounds")
    for name, rate in rates.items():
        print(f"{name:>20}  {rate:>12,.0f}  {rate / rates['training']:>8.1f} x training")
    if arguments.out is not None:
        write(arguments.out, arguments.model, batch, rates)


def write(path: Path, model: str, batch: int, rates: dict[str, float]) -> None:
    """Appends one row per rate."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow(["model", "batch", "machine", "gftzoo", "torch", "what", "images_per_second", "x_training"])
        for name, rate in rates.items():
            where = [model, batch, platform.machine(), gftzoo.__version__, torch.__version__]
            rows.writerow([*where, name, f"{rate:.0f}", f"{rate / rates['training']:.1f}"])


if __name__ == "__main__":
    main()
