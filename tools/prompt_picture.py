"""A picture of what a text-to-image model draws for prompts of its data, beside the data's own pictures.

    python tools/prompt_picture.py runs/NAME --strengths 1 0.66 0.4 --out docs/images/sd-nano.png
    python tools/prompt_picture.py --row base BASE_RUN --row "base + CFG" BASE_RUN 2 --row GFT RUN 0.5 --out x.png

One column a prompt, spread evenly over the train split unless prompts are given; one row a strength (beta of a GFT
model, CFG scale of a plain one), or whatever model and strength --row names under its label; the same seeds in every
row. The last row holds the data's pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import gftzoo
from gftzoo.data import Source, open_source
from gftzoo.errors import GftzooError, UsageError
from gftzoo.model import Model


def chosen_rows(source: Source, prompts: list[str], columns: int) -> list[int]:
    """Rows of the data that have these captions; without captions, rows that are spread evenly."""
    if not prompts:
        return [i * len(source) // columns for i in range(columns)]
    captions = [source.condition_of(row) for row in range(len(source))]
    for prompt in prompts:
        if prompt not in captions:
            raise UsageError(f"no picture of {source.name!r} has the caption {prompt!r}.")
    return [captions.index(prompt) for prompt in prompts]


@dataclass(frozen=True)
class Line:
    """A row of the picture: what draws it, and how strongly guided; without a label it says the strength."""

    run: str
    strength: float | None = None
    label: str = ""


def lines(job: argparse.Namespace) -> list[Line]:
    """The rows that are asked for; UsageError where there are none, or one is not understood."""
    found = [Line(job.run, value) for value in job.strengths] if job.run else []
    for words in job.row:
        try:
            label, run, *strength = words
            found.append(Line(run, float(*strength) if strength else None, label))
        except (ValueError, TypeError) as error:
            raise UsageError(f"--row {' '.join(words)} is not LABEL RUN or LABEL RUN STRENGTH, a number.") from error
    if not found:
        raise UsageError("there is nothing to draw; name a run, or rows with --row LABEL RUN STRENGTH.")
    return found


@torch.no_grad()
def drawn(wanted: list[Line], prompts: list[int | str]) -> Iterator[tuple[str, Tensor]]:
    """(label, images (B, 3, H, W) in [0, 1]) of each row."""
    models: dict[str, Model] = {}
    for line in wanted:
        model = models.setdefault(line.run, gftzoo.load(line.run))
        word = "beta" if model.card.temperature else "cfg"
        guided = {} if line.strength is None else {word: line.strength}
        yield line.label or f"{word} = {line.strength:g}", model.sample(prompts, **guided)


def draw(pictures: list[tuple[str, Tensor]], prompts: list[str], out: Path) -> None:
    """Writes the picture: a prompt above every column, a label left of every row."""
    figure = Figure(figsize=(0.95 * len(prompts) + 0.8, 0.95 * len(pictures) + 0.5), layout="constrained")
    axes = figure.subplots(len(pictures), len(prompts), squeeze=False)
    for line, (label, images_BCHW) in zip(axes, pictures, strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        for axis, image_CHW in zip(line, images_BCHW, strict=True):
            axis.imshow(image_CHW.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, prompt in zip(axes[0], prompts, strict=True):
        axis.set_title(prompt.replace(" ", "\n"), fontsize=7)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=85)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run, or a saved model's folder")
    parser.add_argument("--data", help="data source with captions; default: the first model's own")
    parser.add_argument("--strengths", type=float, nargs="+", default=[1.0, 0.66, 0.4], help="of RUN")
    parser.add_argument("--row", nargs="+", action="append", default=[], metavar="LABEL RUN STRENGTH")
    parser.add_argument("--prompts", nargs="+", default=[], help="captions of the data")
    parser.add_argument("--columns", type=int, default=12, help="how many, where no prompts are given")
    parser.add_argument("--out", type=Path, required=True)
    job = parser.parse_args()
    torch.set_num_threads(1)
    try:
        wanted = lines(job)
        card = gftzoo.load(wanted[0].run).card
        source = open_source(job.data or str(card.data))
        rows = chosen_rows(source, job.prompts, job.columns)
        pictures = list(drawn(wanted, [source.condition_of(row) for row in rows]))
        pictures.append(("data", source.images(rows, card.resolution, 3).float() / 255))
    except GftzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    draw(pictures, [str(source.condition_of(row)) for row in rows], job.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
