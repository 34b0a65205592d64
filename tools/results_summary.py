"""The results in short, for tools/results_page.py: a row for each model and data, and what each is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gftzoo.catalogue.registry import zoo_registry

SCRATCH = "GFT, from scratch"
NAMES = {
    "adm-nano": "ADM",
    "dit-nano": "DiT",
    "ldm-nano": "LDM",
    "llamagen-nano": "LlamaGen",
    "mar-nano": "MAR",
    "maskgit-nano": "MaskGIT",
    "mdt-nano": "MDTv2",
    "open-magvit2-nano": "Open-MAGVIT2",
    "rar-nano": "RAR",
    "rq-nano": "RQ-Transformer",
    "sd-nano": "Stable Diffusion",
    "sit-emoji": "SiT",
    "sit-nano": "SiT",
    "uvit-nano": "U-ViT",
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
    "fashion-mnist-28px": "Fashion-MNIST, 28 px",
    "twice": "handwritten digits, twice the steps",
    "twice-embedding": "handwritten digits, twice the steps, an embedding",
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


def summary(measured: Sequence[tuple[str, dict[str, Measured], dict[str, float]]]) -> str:
    """A table of all models: unguided, CFG and GFT at their best, and GFT's two ways over CFG of the same seeds."""
    lines = [
        "## In short",
        "",
        "Fréchet distances, smaller is better, each at the strength that is best for it. CFG runs the network twice a",
        "step, GFT once. An adapter trains a small part on the frozen plain network. Ratios are over the same seeds.",
        "",
        "| | no guidance | CFG | GFT, from scratch | over CFG | GFT adapter | over CFG |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, ways, ratios in measured:
        cells = [_distance(ways.get(way)) for way in ("base, unguided", "base + CFG")]
        for way in (SCRATCH, "GFT adapter on the frozen base"):
            cells += [_distance(ways.get(way)), _ratio(ratios.get(way))]
        lines.append(f"| {title(name)} | {' | '.join(cells)} |")
    found = [ratios[SCRATCH] for _, _, ratios in measured if SCRATCH in ratios]
    below = sum(value <= 1 for value in found)
    sentence = f"With one pass for two, GFT from scratch is at or below CFG in {below} of {len(found)}."
    return "\n".join([*lines, "", sentence])


def _distance(way: Measured | None) -> str:
    return "" if way is None else f"{way.distance:.2f}"


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"**{value:.2f}**" if value <= 1 else f"{value:.2f}"
