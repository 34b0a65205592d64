"""What a cheaper unconditional pass costs and gives: a study in small.

    python tools/second_pass_study.py dit-nano llamagen-nano

Trains each model with GFT and several options of the unconditional pass, for every seed, for the same steps; samples
each at several temperatures, scores the images against held-out real ones, and times training steps in turn. It writes
docs/results/second-pass.csv. What is done already is not done again. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from benchmark import gft_steps
from beta_study import steps_done

import gftzoo
from gftzoo.contract.guidance import Temperature
from gftzoo.engine import resolve, train
from gftzoo.errors import GftzooError
from gftzoo.evaluate.evaluator import Evaluator
from gftzoo.evaluate.protocol import choose_protocol
from gftzoo.evaluate.sweep import sweep

VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "half of the samples": {"unconditional_share": 0.5},
    "in bf16": {"unconditional_precision": "bf16"},
}
BETAS = (0.66, 0.5, 0.4)
FIELDS = ("model", "steps", "images", "second_pass", "seed", "best_beta", "frechet", "step_ratio_to_plain")


def trained(job: argparse.Namespace, name: str, variant: str, seed: int) -> gftzoo.Model:
    """The model of a variant and seed, from its run if that is finished."""
    options: dict[str, Any] = {f"objective.{key}": value for key, value in VARIANTS[variant].items()}
    options |= {"seed": seed, "sample_every": 10**9, "checkpoint_every": 10**9}
    config = resolve(name, objective="gft", steps=job.steps, options=options)
    run: Path = job.work / f"{name}-{job.steps}-{variant.replace(' ', '-')}-seed{seed}"
    if steps_done(run) < config.steps:
        shutil.rmtree(run, ignore_errors=True)
        train(config, run)
    return gftzoo.load(run)


def rows_of(job: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    """A row for every variant and seed: the best distance over the temperatures, and the time of a step."""
    pace = gft_steps(name, VARIANTS, rounds=5)
    rows: list[dict[str, Any]] = []
    evaluator: Evaluator | None = None
    for seed in job.seeds:
        for variant in VARIANTS:
            model = trained(job, name, variant, seed)
            if evaluator is None:
                protocol = choose_protocol("embedded", model.card, data=None, images=job.images)
                evaluator = Evaluator(protocol, resolution=model.card.resolution)
            guidances = [Temperature(beta, model.card.gft_schedule) for beta in BETAS]
            folder = job.work / "records" / f"{name}-{variant}"
            records = list(sweep(evaluator, model, guidances, folder, seed=seed, batch_size=250, objective="gft"))
            best = min(records, key=lambda record: record.scores.frechet)
            found = (name, job.steps, job.images, variant, seed, best.subject.strength, f"{best.scores.frechet:.4f}")
            rows.append(dict(zip(FIELDS, (*found, f"{pace[variant]:.3f}"), strict=True)))
            print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["dit-nano", "llamagen-nano"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000, help="images per score")
    parser.add_argument("--out", type=Path, default=Path("docs/results/second-pass.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/second-pass-study"), help="folder of runs and records")
    job = parser.parse_args()
    torch.set_num_threads(1)
    try:
        rows = [row for name in job.models for row in rows_of(job, name)]
    except GftzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    with job.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
