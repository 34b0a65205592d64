"""Writes docs/results.md from the CSV files under docs/results, and says there what has not been reproduced.

    python tools/results_page.py            # writes the page
    python tools/results_page.py --check    # only says whether it is what the files give

table.csv, finetuned.csv and equal-forwards.csv come from tools/guidance_table.py, beta.csv from tools/beta_study.py,
training-cost.csv from tools/training_cost.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from results_beta import beta_section, verdict
from results_curves import at_equal_x
from results_rows import Row, mean, read, spread
from results_summary import model_of, samples, summary, title

from gftzoo.catalogue.registry import zoo_registry

ROOT = Path(__file__).parents[1]

INTRODUCTION = """# Results

<!-- Written by tools/results_page.py from the files under docs/results; edit those, not this page. -->

Every number on this page was measured with this code, with small models on embedded real data, in minutes on a CPU. The
distance is Fréchet's, between generated and held-out real images, in the features named; it is not the FID of
InceptionV3 and compares only with rows of its own table. Mean ± standard deviation over seeds. Each way to guide is
shown at the strength that is best for it; all strengths are in the CSV files."""

WAYS: Sequence[tuple[str, str, Callable[[Row], bool]]] = (
    ("base, unguided", "table", lambda r: r["guidance"] == "unguided"),
    ("base + CFG", "table", lambda r: r["guidance"] == "cfg"),
    ("base + CFG, half the steps", "equal-forwards", lambda r: r["guidance"] == "cfg"),
    ("base trained on, + CFG", "finetuned", lambda r: r["objective"] == "conditional-from-base"),
    ("GFT adapter on the frozen base", "finetuned", lambda r: r["objective"] == "adapter-from-base"),
    ("GFT LoRA at beta 0.5, from base", "finetuned", lambda r: r["objective"] == "lora-from-base"),
    ("GFT with an affine temperature, from base", "finetuned", lambda r: r["objective"] == "affine-from-base"),
    ("GFT, fine-tuned from base", "finetuned", lambda r: r["objective"] == "gft-from-base"),
    ("guidance distillation, from base", "finetuned", lambda r: r["objective"] == "distill-from-base"),
    ("CCA, from base", "finetuned", lambda r: r["objective"] == "cca-from-base"),
    ("GFT, from scratch", "table", lambda r: r["objective"] == "gft"),
)


@dataclass(frozen=True)
class Best:
    """A way to guide at its best strength: one value for each seed."""

    strength: str
    rows: list[Row]

    @property
    def distance(self) -> float:
        return mean(self.rows, "frechet")


def best(rows: Sequence[Row]) -> Best | None:
    """The strength with the smallest mean distance."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["guidance"], row["strength"], row["schedule"]), []).append(row)
    if not groups:
        return None
    (guidance, strength, schedule), found = min(groups.items(), key=lambda item: mean(item[1], "frechet"))
    letter = {"beta": "beta = ", "cfg": "w = "}.get(guidance, "")
    ramp = "" if schedule == "constant" or not strength else f", {schedule}"
    return Best(f"{letter}{float(strength):g}{ramp}" if strength else "", found)


def ways(folder: Path, seeds: set[str] | None = None) -> dict[str, Best]:
    """The ways to guide that were measured in a folder of results, of all seeds or of some."""
    files = {name: read(folder / f"{name}.csv") for name in ("table", "finetuned", "equal-forwards")}
    found = {}
    for name, file, chosen in WAYS:
        strongest = best([row for row in files[file] if chosen(row) and (seeds is None or row["seed"] in seeds)])
        if strongest is not None:
            found[name] = strongest
    return found


def guidance_section(folder: Path) -> str:
    """One model's table, and whether GFT reaches CFG."""
    measured = ways(folder)
    first = next(iter(measured.values())).rows[0]
    lines = [
        f"### {title(folder.name)}",
        "",
        f"`{model_of(folder.name)}`, {first['images']} images per row; features: {first['features']}; against "
        f"{first['reference']}.",
        *samples(folder),
        "",
        "| | strength | Fréchet distance | accuracy % | precision | recall | forwards per step |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in measured.items():
        scores = [spread(found.rows, column, scale, digits) for column, scale, digits in SCORES]
        cells = [name, found.strength, spread(found.rows, "frechet"), *scores, found.rows[0]["passes"]]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {sentence}" for sentence in [*verdicts(folder, measured), *at_equal_x(folder)])]
    if (folder / "curves.png").is_file():
        curves = f"![guidance curves of {title(folder.name)}](results/{folder.name}/curves.png)"
        lines += ["", *folded("Its curves over all strengths", curves)]
    return "\n".join(lines)


def folded(heading: str, text: str) -> list[str]:
    """Lines that a reader opens to see, in the site and where the file itself is read."""
    return ['<details markdown="1">', f"<summary>{heading}</summary>", "", text, "", "</details>"]


def sections(folders: Sequence[Path]) -> Iterator[str]:
    """A table for each model, in order, and one for all whose families come from one package."""
    families = zoo_registry().families.values()
    counts = Counter(family.distribution for family in families)
    package = {
        family.nano: family.distribution for family in families if family.nano and counts[family.distribution] > 1
    }
    grouped: dict[str, list[Path]] = {}
    for folder in folders:
        nano = next((nano for nano in package if folder.name.startswith(nano)), None)
        grouped.setdefault(folder.name if nano is None else package[nano], []).append(folder)
    for name in sorted(grouped):
        yield package_section(name, grouped[name]) if name in counts else guidance_section(grouped[name][0])


HEADS = {"gftzoo-autoregressive": "Autoregressive systems"}


def package_section(package: str, folders: Sequence[Path]) -> str:
    """One row for each model of a package: every way at its best strength, and what GFT's distance is of CFG's."""
    measured = {folder.name: ways(folder) for folder in folders}
    shown = [name for name, _, _ in WAYS if any(name in found for found in measured.values())]
    first = next(iter(measured[folders[0].name].values())).rows[0]
    lines = [
        f"### {HEADS.get(package, package)}",
        "",
        f"{first['images']} images per row; features: {first['features']}; against {first['reference']}. Fréchet "
        "distances, at the best strength.",
        "",
        f"| model | {' | '.join(shown)} | GFT / CFG |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for model, found in measured.items():
        cells = [cell(found[name]) if name in found else "" for name in shown]
        both = found.get("GFT, from scratch"), found.get("base + CFG")
        ratio = f"{both[0].distance / both[1].distance:.2f}" if both[0] and both[1] else ""
        lines.append(f"| {' | '.join([f'`{model}`', *cells, ratio])} |")
    for folder in folders:
        lines += samples(folder)
    return "\n".join(lines)


def cell(found: Best) -> str:
    """Distance and strength."""
    return " at ".join(filter(None, (spread(found.rows, "frechet"), found.strength)))


SCORES = (("accuracy", 100.0, 1), ("precision", 1.0, 2), ("recall", 1.0, 2))


CLAIMS = (
    ("GFT, from scratch", "base + CFG", "CFG"),
    ("GFT, from scratch", "base + CFG, half the steps", "CFG of as many forwards"),
    ("GFT adapter on the frozen base", "base + CFG", "the base's CFG"),
    ("GFT LoRA at beta 0.5, from base", "base + CFG", "the base's CFG"),
    ("GFT with an affine temperature, from base", "base + CFG", "the base's CFG"),
    ("GFT, fine-tuned from base", "base + CFG", "CFG"),
    *(
        (way, "base trained on, + CFG", "CFG of the base trained on for as long")
        for way in (
            "GFT LoRA at beta 0.5, from base",
            "GFT with an affine temperature, from base",
            "GFT, fine-tuned from base",
            "GFT adapter on the frozen base",
        )
    ),
    ("guidance distillation, from base", "base + CFG", "CFG, which it learns"),
    ("CCA, from base", "base, unguided", "the unguided base"),
)


def verdicts(folder: Path, measured: dict[str, Best]) -> list[str]:
    """Each way against what it claims to reach, over the same seeds, in sentences that say so where it falls short."""
    sentences = []
    for name, rival, called in CLAIMS:
        if name not in measured:
            continue
        seeds = {row["seed"] for row in measured[name].rows}
        target = ways(folder, seeds).get(rival)
        if target is not None:
            every = len(seeds) == len({row["seed"] for row in measured[rival].rows})
            some = "" if every else f" ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})"
            sentences.append(f"{name}, against {called}{some}: {compared(measured[name].distance, target.distance)}.")
    return sentences


def over_cfg(folder: Path) -> dict[str, float]:
    """The distance of each way over that of the base's CFG, over the seeds that the way was measured with."""
    found = {}
    for name, way in ways(folder).items():
        target = ways(folder, {row["seed"] for row in way.rows}).get("base + CFG")
        if target is not None:
            found[name] = way.distance / target.distance
    return found


def compared(value: float, target: float) -> str:
    """`1.80 <= 1.83` or by how much it is above."""
    if value <= target:
        return f"reached, {value:.2f} <= {target:.2f}"
    return f"**not reached**, {value:.2f} is above {target:.2f} by {value - target:.2f} ({value / target - 1:.0%})"


def cost_section(rows: Sequence[Row]) -> str:
    """Passes, time and memory of an update beside the paper's."""
    lines = [
        "## Cost of training",
        "",
        "One update of each objective, GFT = 1; passes are per sample, with + without gradient, as counted. The paper",
        "measured DiT-XL (distillation) and VAR-d30 (CCA) on eight GPUs; small models leave more to overhead.",
        "",
        "| model | objective | passes | time | memory | paper: time | paper: memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        passes = f"{float(r['passes_with_gradient']):g} + {float(r['passes_without_gradient']):g}"
        paper = [f"x{float(r[key]):.2f}" if r[key] else "" for key in ("paper_time_ratio", "paper_memory_ratio")]
        own = [f"x{float(r[key]):.2f}" for key in ("time_ratio", "memory_ratio")]
        lines.append(f"| {' | '.join([r['model'], r['objective'], passes, *own, *paper])} |")
    lines += ["", f"Measured on: {rows[0]['device']}, torch {rows[0]['torch']}."]
    return "\n".join(lines)


def missing(results: Path, folders: Sequence[Path]) -> list[str]:
    """What the page lacks, in sentences."""
    sentences = []
    for family, entry in zoo_registry().families.items():
        if entry.nano is None:
            continue
        own = [folder for folder in folders if folder.name.startswith(entry.nano)]
        if not own:
            sentences.append(f"{family} ({entry.nano}): no comparison of GFT and CFG has been measured.")
            continue
        measured = set().union(*(ways(folder) for folder in own))
        if "GFT, fine-tuned from base" not in measured:
            sentences.append(f"{family} ({entry.nano}): GFT fine-tuned from the base model has not been measured.")
    if not read(results / "training-cost.csv"):
        sentences.append("The cost of training (the paper's table 1) has not been measured.")
    if not list(results.glob("*/beta.csv")):
        sentences.append("How beta is best drawn (the paper's study of beta) has not been measured.")
    sentences.append(
        "Nothing here is at the paper's scale: no model was trained on ImageNet or LAION, and no FID of InceptionV3 "
        "over 50,000 images was computed. `gftzoo info MODEL` shows the published numbers of full-size models, with "
        "their sources."
    )
    return sentences


def page(results: Path) -> str:
    """The whole page."""
    folders = sorted(path.parent for path in results.glob("*/table.csv"))
    compared_ways = [(folder.name, ways(folder), over_cfg(folder)) for folder in folders]
    parts = [INTRODUCTION, summary(compared_ways)] if folders else [INTRODUCTION]
    parts += ["## Guidance-free training and classifier-free guidance"]
    parts += sections(folders)
    costs = read(results / "training-cost.csv")
    parts += [cost_section(costs)] if costs else []
    studies = [(path.parent, rows) for path in sorted(results.glob("*/beta.csv")) if (rows := read(path))]
    parts += ["## How beta is drawn", verdict(studies)] if studies else []
    parts += ["\n".join(folded(f"Each rule for {folder.name}", beta_section(folder, rows))) for folder, rows in studies]
    parts += ["## Not reproduced", "\n".join(f"- {sentence}" for sentence in missing(results, folders))]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    check = parser.parse_args().check
    path, text = ROOT / "docs" / "results.md", page(ROOT / "docs" / "results")
    if check:
        current = path.is_file() and path.read_text(encoding="utf-8") == text
        print("up to date" if current else f"{path} is out of date; run python tools/results_page.py")
        return 0 if current else 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
