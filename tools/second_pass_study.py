"""What GFT's unconditional pass in bf16 costs in distance: a study in small.

    python tools/second_pass_study.py dit-nano

Trains the model with its recipe and that option, for every seed, samples each at several temperatures and scores the
images against held-out real ones. Beside them it puts the rows of docs/results/MODEL/table.csv, where the same runs
have the pass as published. It writes docs/results/second-pass.csv. What is done already is not done again. Everything
runs on one thread.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from beta_study import steps_done

import gftzoo
from gftzoo.contract.guidance import Temperature
from gftzoo.engine import resolve, train
from gftzoo.errors import GftzooError
from gftzoo.evaluate.evaluator import Evaluator
from gftzoo.evaluate.protocol import choose_protocol
from gftzoo.evaluate.sweep import sweep

PUBLISHED = "as published"
VARIANTS: dict[str, dict[str, Any]] = {"in bf16": {"unconditional_precision": "bf16"}}
BETAS = (0.66, 0.5, 0.4)
FIELDS = ("model", "steps", "images", "second_pass", "seed", "beta", "frechet")

Row = tuple[Any, ...]


def trained(job: argparse.Namespace, variant: str, seed: int) -> gftzoo.Model:
    """The model of a variant and seed, from its run if that is finished."""
    options: dict[str, Any] = {f"objective.{key}": value for key, value in VARIANTS[variant].items()}
    options |= {"seed": seed, "sample_every": 10**9, "checkpoint_every": 10**9}
    config = resolve(job.model, objective="gft", options=options)
    run: Path = job.work / f"{job.model}-{variant.replace(' ', '-')}-seed{seed}"
    if steps_done(run) < config.steps:
        shutil.rmtree(run, ignore_errors=True)
        train(config, run)
    return gftzoo.load(run)


def published(job: argparse.Namespace, steps: int) -> Iterator[Row]:
    """The rows of the same recipe, seeds and temperatures with both passes in fp32."""
    with Path(f"docs/results/{job.model}/table.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            ours = row["objective"] == "gft" and int(row["seed"]) in job.seeds and row["images"] == str(job.images)
            if ours and float(row["strength"]) in BETAS:
                beta, distance = float(row["strength"]), float(row["frechet"])
                yield job.model, steps, job.images, PUBLISHED, int(row["seed"]), beta, f"{distance:.4f}"


def measured(job: argparse.Namespace, steps: int) -> Iterator[Row]:
    """A row for every variant, seed and temperature."""
    evaluator: Evaluator | None = None
    for variant in VARIANTS:
        for seed in job.seeds:
            model = trained(job, variant, seed)
            if evaluator is None:
                protocol = choose_protocol("embedded", model.card, data=None, images=job.images)
                evaluator = Evaluator(protocol, resolution=model.card.resolution)
            guidances = [Temperature(beta, model.card.gft_schedule) for beta in BETAS]
            folder = job.work / "records" / f"{job.model}-{variant}-seed{seed}"
            for record in sweep(evaluator, model, guidances, folder, seed=seed, batch_size=250, objective="gft"):
                distance = f"{record.scores.frechet:.4f}"
                yield job.model, steps, job.images, variant, seed, record.subject.strength, distance


def show(rows: list[Row]) -> None:
    """Prints the mean over the seeds at every temperature, and that of each seed's best."""
    for variant in dict.fromkeys(row[3] for row in rows):
        found = {(row[4], row[5]): float(row[6]) for row in rows if row[3] == variant}
        seeds = sorted({seed for seed, _ in found})
        means = {beta: statistics.mean(found[seed, beta] for seed in seeds) for beta in BETAS}
        best = [min(found[seed, beta] for beta in BETAS) for seed in seeds]
        print(variant, {beta: f"{mean:.3f}" for beta, mean in means.items()}, f"best {statistics.mean(best):.3f}", best)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="dit-nano")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--images", type=int, default=1500, help="images per score")
    parser.add_argument("--out", type=Path, default=Path("docs/results/second-pass.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/second-pass-study"), help="folder of runs and records")
    job = parser.parse_args()
    torch.set_num_threads(1)
    try:
        steps = resolve(job.model, objective="gft").steps
        rows = [*published(job, steps), *measured(job, steps)]
    except GftzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    show(rows)
    with job.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([FIELDS, *rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
