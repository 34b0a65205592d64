"""Whether `gftzoo train --dry-run` says beforehand what a run then takes: memory and time per step.

    python tools/estimate_check.py --cases dit-nano:64 dit-b:64 dit-b:64:precision=bf16

A case is a model, a batch size and settings of the run, if any.

Estimate and run take turns, each in a process of its own, and medians count. On a CPU one thread computes and its own
time is compared, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import csv_rows
import torch

from gftzoo.engine import Job, TrainConfig, parse_options, resolve, train
from gftzoo.engine.parallel.place import Place, choose_place
from gftzoo.engine.record.progress import METRICS, peak_memory
from gftzoo.engine.run import estimate
from gftzoo.engine.run.trial import seconds_per_step


@dataclass(frozen=True)
class Row:
    """One line of the CSV."""

    model: str
    batch: int
    settings: str
    device: str
    expected_gib: float
    measured_gib: float
    memory_ratio: float
    expected_seconds: float
    measured_seconds: float
    time_ratio: float


def prepare(config: TrainConfig) -> Place:
    place = choose_place(config.device, config.precision)
    if place.device.type == "cpu":
        torch.set_num_threads(1)
        time.perf_counter = time.thread_time
    return place


def expected(config: TrainConfig) -> tuple[float, float]:
    """GiB and seconds per step, as `--dry-run` gives them."""
    place, job = prepare(config), Job(config)
    memory = estimate.training_cost(job, place).total_bytes(place.device) / estimate.GIB
    return memory, seconds_per_step(job, place) or float("nan")


def measured(config: TrainConfig) -> tuple[float, float]:
    """The same of a run, from its log; its first step is left out."""
    place = prepare(config)
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run")
        rows = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    seconds = statistics.median(config.batch_size / row["images_per_second"] for row in rows[1:])
    return peak_memory(place.device), seconds


def check(case: str, device: str, steps: int, rounds: int) -> Row:
    name, batch, *settings = case.split(":")
    options = parse_options(settings)
    options |= {"batch_size": int(batch), "device": device, "log_every": 1, "sample_grid": [1, 1]}
    config = resolve(name, objective="gft", steps=steps, options=options)
    guesses, facts = [], []
    for _ in range(rounds):
        for job, results in ((expected, guesses), (measured, facts)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(job, (config,)))
    (memory, seconds), (real_memory, real_seconds) = (
        (statistics.median(m for m, _ in results), statistics.median(s for _, s in results))
        for results in (guesses, facts)
    )
    return Row(
        name, int(batch), " ".join(settings), device,
        round(memory, 3), round(real_memory, 3), round(memory / real_memory, 3),
        round(seconds, 4), round(real_seconds, 4), round(seconds / real_seconds, 3),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["dit-nano:64", "dit-b:64"], metavar="MODEL:BATCH[:KEY=VALUE]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results/estimates.csv"))
    arguments = parser.parse_args()
    rows = []
    for case in arguments.cases:
        rows.append(check(case, arguments.device, arguments.steps, arguments.rounds))
        print(asdict(rows[-1]), flush=True)
    csv_rows.write(rows, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
