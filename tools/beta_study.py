"""How the temperature should be drawn and how often the condition dropped: a study in small.

    python tools/beta_study.py var-nano

Trains the model with GFT under several rules, for every seed, samples each at several temperatures and scores the
images against held-out real ones. It writes DIR/beta.csv and DIR/beta.png. What is done already is not done again.
Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

import gftzoo
from gftzoo.contract.guidance import Temperature
from gftzoo.engine import resolve, train
from gftzoo.engine.checkpoints import newest, read_state
from gftzoo.errors import GftzooError
from gftzoo.evaluate.evaluator import Evaluator
from gftzoo.evaluate.protocol import choose_protocol
from gftzoo.evaluate.sweep import sweep

PUBLISHED = "U(0, 1)"
DRAWS: dict[str, dict[str, Any]] = {  # of beta, and the weight of a sample's loss
    PUBLISHED: {"beta_min": 0.0},
    "U(0.3, 1)": {"beta_min": 0.3},
    "U(0.1, 1), weight 1/beta": {"beta_min": 0.1, "weighting": "inverse-beta"},
    "U(0.3, 1), weight 1/beta": {"beta_min": 0.3, "weighting": "inverse-beta"},
    "U(0.3, 1), weight 1/beta^2": {"beta_min": 0.3, "weighting": "inverse-beta-squared"},
    "U(0, 1), dropped at weight 1": {"beta_min": 0.0, "dropped_mix": "one"},
}
DROPS = (0.05, 0.1, 0.2, 0.3)
USUAL_DROP = 0.1
BETAS = (1.0, 0.8, 0.66, 0.5, 0.4, 0.33)
FIELDS = ("model", "steps", "images", "draw", "p_drop", "seed", "beta", "frechet", "accuracy", "precision", "recall")

Row = dict[str, Any]


def rules(drops: Iterable[float]) -> Iterator[tuple[str, float]]:
    """(draw, p_drop) of every run: the draws at the usual p_drop, and the other p_drops at the published draw."""
    yield from ((draw, USUAL_DROP) for draw in DRAWS)
    yield from ((PUBLISHED, p_drop) for p_drop in drops if p_drop != USUAL_DROP)


def trained(job: argparse.Namespace, draw: str, p_drop: float, seed: int) -> gftzoo.Model:
    """The model under that rule and seed, from its run if that is finished."""
    rule = {"p_drop": p_drop, "weighting": "one", **DRAWS[draw]}
    options = {f"objective.{key}": value for key, value in rule.items()}
    options |= {"seed": seed, "sample_every": 10**9, "checkpoint_every": 10**9}
    config = resolve(job.model, objective="gft", steps=job.steps, options=options)
    name = "-".join(f"{key}{value}" for key, value in sorted(rule.items()))
    run: Path = job.work / f"{job.model}-{config.steps}-{name}-seed{seed}"
    if steps_done(run) < config.steps:
        shutil.rmtree(run, ignore_errors=True)
        train(config, run)
    if steps_done(run) < config.steps:  # asked to stop, it saves and returns
        raise GftzooError(f"{run} was stopped; the same command trains it again.")
    return gftzoo.load(run)


def steps_done(run: Path) -> int:
    checkpoint = newest(run)
    return 0 if checkpoint is None else int(read_state(checkpoint)["step"])


def collect(job: argparse.Namespace) -> list[Row]:
    """The rows of every rule, seed and temperature."""
    rows: list[Row] = []
    evaluator: Evaluator | None = None
    for seed in job.seeds:
        for draw, p_drop in rules(job.drops):
            model = trained(job, draw, p_drop, seed)
            if evaluator is None:
                protocol = choose_protocol("embedded", model.card, data=None, images=job.images)
                evaluator = Evaluator(protocol, resolution=model.card.resolution)
            guidances = [Temperature(beta, model.card.gft_schedule) for beta in BETAS]
            folder = job.work / "records" / f"{draw}-{p_drop}".replace("/", "-over-")
            for record in sweep(evaluator, model, guidances, folder, seed=seed, batch_size=250, objective="gft"):
                found = record.scores.model_dump()
                rows.append(
                    {
                        "model": job.model, "steps": job.steps, "images": job.images, "draw": draw, "p_drop": p_drop,
                        "seed": seed, "beta": record.subject.strength,
                        **{key: found[key] for key in FIELDS if key in found},
                    }
                )  # fmt: skip
            best = min(rows[-len(BETAS) :], key=lambda row: row["frechet"])
            shown = f"seed {seed}  {draw:26} p_drop {p_drop:<5} best {best['frechet']:.2f} at beta {best['beta']:g}"
            print(shown, flush=True)
    return rows


def draw_figure(rows: list[Row], path: Path) -> None:
    """Distance over the sampling temperature, one line a rule: mean over seeds, bars of one standard deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for draw in DRAWS:
        line(left, [r for r in rows if r["draw"] == draw and r["p_drop"] == USUAL_DROP], draw)
    for p_drop in DROPS:
        found = [r for r in rows if r["draw"] == PUBLISHED and r["p_drop"] == p_drop]
        if found:
            line(right, found, f"p_drop {p_drop:g}")
    left.set(title=f"draw of beta, p_drop {USUAL_DROP:g}", ylabel="Fréchet distance")
    right.set(title=f"share of dropped conditions, beta ~ {PUBLISHED}")
    for axis in (left, right):
        axis.set(xlabel="beta at sampling")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)


def line(axis: Any, rows: list[Row], name: str) -> None:
    values = [[r["frechet"] for r in rows if r["beta"] == beta] for beta in BETAS]
    spread = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
    axis.errorbar(BETAS, [statistics.fmean(v) for v in values], yerr=spread, marker="o", capsize=3, label=name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="var-nano")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--drops", type=float, nargs="*", default=DROPS, help="shares of dropped conditions")
    parser.add_argument("--images", type=int, default=1500, help="images per row")
    parser.add_argument("--out", type=Path, help="folder of the results; default docs/results/MODEL")
    parser.add_argument("--work", type=Path, default=Path("runs/beta-study"), help="folder of runs and records")
    job = parser.parse_args()
    job.out = job.out or Path("docs/results") / job.model
    torch.set_num_threads(1)
    try:
        rows = collect(job)
    except GftzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    job.out.mkdir(parents=True, exist_ok=True)
    with (job.out / "beta.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    draw_figure(rows, job.out / "beta.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
