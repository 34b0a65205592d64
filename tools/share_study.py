"""What it costs and gives to train some samples without the unconditional pass: a study in small.

    python tools/share_study.py dit-nano llamagen-nano

Trains each model with GFT at several values of `objective.unconditional_share`, for every seed, for the same steps;
samples each at several temperatures, scores the images against held-out real ones, and times training steps in turn.
It writes docs/results/unconditional-share.csv. What is done already is not done again. Everything runs on one thread.
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

BETAS = (0.8, 0.66, 0.5, 0.4)
FIELDS = ("model", "steps", "images", "share", "seed", "best_beta", "frechet", "step_ratio_to_plain")


def trained(job: argparse.Namespace, name: str, share: float, seed: int) -> gftzoo.Model:
    """The model with that share and seed, from its run if that is finished."""
    options = {"objective.unconditional_share": share, "seed": seed}
    options |= {"sample_every": 10**9, "checkpoint_every": 10**9}
    config = resolve(name, objective="gft", steps=job.steps, options=options)
    run: Path = job.work / f"{name}-{job.steps}-share{share:g}-seed{seed}"
    if steps_done(run) < config.steps:
        shutil.rmtree(run, ignore_errors=True)
        train(config, run)
    return gftzoo.load(run)


def rows_of(job: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    """A row for every share and seed: the best distance over the temperatures, and the time of a step."""
    pace = gft_steps(name, job.shares, rounds=5)
    rows: list[dict[str, Any]] = []
    evaluator: Evaluator | None = None
    for seed in job.seeds:
        for share in job.shares:
            model = trained(job, name, share, seed)
            if evaluator is None:
                protocol = choose_protocol("embedded", model.card, data=None, images=job.images)
                evaluator = Evaluator(protocol, resolution=model.card.resolution)
            guidances = [Temperature(beta, model.card.gft_schedule) for beta in BETAS]
            folder = job.work / "records" / f"{name}-{share:g}"
            records = list(sweep(evaluator, model, guidances, folder, seed=seed, batch_size=250, objective="gft"))
            best = min(records, key=lambda record: record.scores.frechet)
            found = (name, job.steps, job.images, share, seed, best.subject.strength, f"{best.scores.frechet:.4f}")
            rows.append(dict(zip(FIELDS, (*found, f"{pace[share]:.3f}"), strict=True)))
            print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["dit-nano", "llamagen-nano"])
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000, help="images per score")
    parser.add_argument("--out", type=Path, default=Path("docs/results/unconditional-share.csv"))
    parser.add_argument("--work", type=Path, default=Path("runs/share-study"), help="folder of runs and records")
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
