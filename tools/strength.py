"""The strength that is asked of a trained model, and the one that it gives.

    python tools/strength.py runs/dit-nano-gft-seed0 runs/var-nano-gft-seed0 --out docs/results/strength.csv

At its optimum a network with a temperature gives f_u + (f_c - f_u) / beta, so that the step from the unconditional
prediction at beta is 1/beta times the one at beta 1. For every run the first is regressed on the second, over one
batch of held-out images and one draw of the problem; the slope, over 1/beta, is 1 where all that is asked is given. Of
logits the mean over the codes is taken out, which no softmax sees.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import csv_rows
import torch
from torch import Tensor

import gftzoo
from gftzoo.data import open_source
from gftzoo.engine import TrainConfig
from gftzoo.errors import GftzooError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Affine, strength
from gftzoo.model import Model

BETAS = (0.8, 0.66, 0.5, 0.4, 0.33)


@dataclass(frozen=True)
class Row:
    """One line of the CSV: `given` is the slope of the regression, `asked` is 1/beta, `start` where training began."""

    model: str
    temperature: str
    start: str
    train: str
    ends: str
    steps: int
    seed: int
    beta: float
    asked: float
    given: float
    share: float


class Steps:
    """A model's steps from its unconditional prediction, for one batch of held-out images."""

    def __init__(self, model: Model, data: str, images: int) -> None:
        self.model = model
        source, card = open_source(data, "held-out"), model.card
        rows = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:images].tolist()
        pictures = source.images(rows, card.resolution, card.tokenizer.image_channels).float() / 127.5 - 1
        generator = SampleGenerator.for_samples("strength", 0, range(len(rows)), model.device)
        with torch.no_grad():
            latents = model.require_tokenizer().encode(pictures, generator)
        self.problem = model.family.draw_problem(model, latents, generator)
        self.condition = model.encode_condition([source.condition_of(row) for row in rows])
        self.unconditional = self.predict(1.0, model.null_condition(self.condition))
        self.plain = self.at(1.0)

    @torch.no_grad()
    def predict(self, beta: float, condition: Tensor) -> Tensor:
        beta_B = torch.full((len(condition),), beta)
        found = self.model.family.prediction(self.model, self.problem, condition, beta_B)
        value = found.at(strength(beta_B)) if isinstance(found, Affine) else found
        is_logits = self.model.card.tokenizer.codebook is not None
        return (value - value.mean(-1, keepdim=True) if is_logits else value).double()

    def at(self, beta: float) -> Tensor:
        return self.predict(beta, self.condition) - self.unconditional

    def given(self, beta: float) -> float:
        """The slope of the regression through the origin."""
        return float((self.at(beta) * self.plain).sum() / self.plain.square().sum())


def measure(run: Path, images: int) -> list[Row]:
    """The rows of one run."""
    config = TrainConfig.read(run)
    model = gftzoo.load(run)
    model.network.eval()
    if config.data is None:
        raise GftzooError(f"{run} says no data to measure it on.")
    steps, options = Steps(model, config.data, images), dict(config.objective_options)
    return [
        Row(
            model.card.name,
            str(model.card.network.get("temperature_input", "embedding")),
            "scratch" if config.weights is None else "base",
            str(config.train), str(options.get("ends", "drawn")), config.steps, config.seed,
            beta, round(1 / beta, 3), round(given := steps.given(beta), 3), round(given * beta, 3),
        )
        for beta in BETAS
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished runs with a temperature")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("docs/results/strength.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for run in arguments.runs:
        rows += measure(run, arguments.images)
        shown = ", ".join(f"beta {row.beta:g}: {row.given:.2f} of {row.asked:.2f}" for row in rows[-len(BETAS) :])
        print(f"{run.name}: {shown}", flush=True)
    csv_rows.write(rows, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
