"""The results in short, for tools/results_page.py: a row for each model and data, and what each is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gftzoo.catalogue.registry import zoo_registry

NAMES = {
    "dit-nano": "DiT",
    "llamagen-nano": "LlamaGen",
    "mar-nano": "MAR",
    "maskgit-nano": "MaskGIT",
    "open-magvit2-nano": "Open-MAGVIT2",
    "rar-nano": "RAR",
    "rq-nano": "RQ-Transformer",
    "sd-nano": "Stable Diffusion",
    "sit-emoji": "SiT",
    "var-nano": "VAR",
    "vit-vqgan-nano": "ViT-VQGAN",
    "vqgan-nano": "VQGAN",
}
DATA = {
    "digits": "handwritten digits",
    "emoji": "emoji by category",
    "emoji-nature": "emoji by name",
    "emoji-ten": "ten kinds of emoji",
    "fashion-mnist": "Fashion-MNIST",
    "fashion-mnist-16px": "Fashion-MNIST, 16 px",
}


class Measured(Protocol):
    """A way to guide at its best strength."""

    @property
    def distance(self) -> float:
        """The mean Fréchet distance."""


def model_of(folder: str) -> str:
    """The model that a folder of results is of: `dit-nano-emoji` is of dit-nano."""
    return max((name for name in zoo_registry().models if folder.startswith(name)), key=len, default=folder)


def title(folder: str) -> str:
    """What a folder of results is called: `DiT on handwritten digits`."""
    model = model_of(folder)
    card = zoo_registry().models.get(model)
    data = folder.removeprefix(model).lstrip("-") or (card.data if card else "")
    return f"{NAMES.get(model, model)} on {DATA.get(data or '', data)}"


def samples(folder: Path) -> list[str]:
    """The picture of a folder's samples, as Markdown."""
    if not (folder / "strip.png").is_file():
        return []
    alt = f"what {title(folder.name)} draws: a row for each beta, the same seeds in every row"
    return ["", f"![{alt}](results/{folder.name}/strip.png)"]


def summary(measured: Sequence[tuple[str, dict[str, Measured]]]) -> str:
    """A table of all models: unguided, CFG and GFT at their best, and how the last two compare."""
    lines = [
        "## In short",
        "",
        "Fréchet distances, smaller is better, each at the strength that is best for it. CFG runs the network twice a",
        "step, GFT once.",
        "",
        "| | no guidance | CFG | GFT, from scratch | GFT / CFG |",
        "|---|---|---|---|---|",
    ]
    below, compared = 0, 0
    for name, ways in measured:
        found = [ways.get(way) for way in ("base, unguided", "base + CFG", "GFT, from scratch")]
        ratio = ""
        if found[1] is not None and found[2] is not None:
            value = found[2].distance / found[1].distance
            below, compared = below + (value <= 1), compared + 1
            ratio = f"**{value:.2f}**" if value <= 1 else f"{value:.2f}"
        cells = ["" if way is None else f"{way.distance:.2f}" for way in found]
        lines.append(f"| {title(name)} | {' | '.join([*cells, ratio])} |")
    return "\n".join([*lines, "", f"With one pass for two, GFT is at or below CFG in {below} of {compared}."])
