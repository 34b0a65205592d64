"""The curves of every folder of results, from its CSV files: the mean over seeds, and its spread as a band.

    python tools/results_curves.py                  # all of docs/results
    python tools/results_curves.py docs/results/dit-nano

A curve goes from no guidance to the strongest, each point with its strength: the distance over how many pictures are
recognised; the band is the sample standard deviation of the distance over seeds. What is far worse than no guidance
lies outside of the picture.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results_rows import Row, mean, read
from results_summary import SCRATCH, title

from gftzoo.evaluate.frontier import compare_at_equal_x, lowest_at

FAR = 1.1  # times what no guidance gives
RESULTS = Path("docs/results")
AXES = {"accuracy": "accuracy", "prompt_agreement": "agreement with the prompt", "precision": "precision"}


@dataclass(frozen=True)
class Way:
    """A way to guide: what it is called, its colour, the file its rows are in and which of them they are."""

    name: str
    colour: str
    file: str
    objective: str


WAYS = (
    Way("CFG", "tab:blue", "table", "conditional"),
    Way(SCRATCH, "tab:orange", "table", "gft"),
    Way("GFT adapter on the frozen base", "tab:green", "finetuned", "adapter-from-base"),
)


@dataclass(frozen=True)
class Point:
    """A strength: the means over seeds, and the standard deviation of the distance, 0 of a single seed."""

    label: str
    x: float
    distance: float
    spread: float


def axis_of(rows: Sequence[Row]) -> str:
    """What the curves are drawn over: the first of AXES that was measured."""
    return next(axis for axis in AXES if all(row.get(axis) for row in rows))


def curve(rows: Sequence[Row], axis: str) -> list[Point]:
    """The points of one way and schedule, from no guidance to the strongest."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(float(row["strength"] or 1.0), []).append(row)
    weakest_first = sorted(groups, key=lambda strength: abs(strength - 1.0))
    return [_point(strength, groups[strength], axis) for strength in weakest_first]


def _point(strength: float, rows: Sequence[Row], axis: str) -> Point:
    distances = [float(row["frechet"]) for row in rows]
    spread = statistics.stdev(distances) if len(distances) > 1 else 0.0
    return Point(f"{strength:g}", mean(rows, axis), statistics.fmean(distances), spread)


def curves(folder: Path) -> Iterator[tuple[Way, str, list[Row]]]:
    """Each way and schedule that was measured at more than one strength, with its rows."""
    for way in WAYS:
        rows = [row for row in read(folder / f"{way.file}.csv") if row["objective"] == way.objective]
        unsteered = [row for row in rows if float(row["strength"] or 1.0) == 1.0]
        for schedule in sorted({row["schedule"] for row in rows if row not in unsteered}):
            yield way, schedule, [*unsteered, *(r for r in rows if r not in unsteered and r["schedule"] == schedule)]


def at_equal_x(folder: Path) -> list[str]:
    """GFT from scratch against CFG where as many pictures are recognised, in a sentence for each schedule."""
    found = {(way.name, schedule): rows for way, schedule, rows in curves(folder)}
    sentences = []
    for (name, schedule), rows in found.items():
        rival, seeds = found.get(("CFG", schedule)), {row["seed"] for row in rows}
        if name != SCRATCH or rival is None or len(seeds) < 2:
            continue
        axis = axis_of([*rows, *rival])
        told = _excess(curve(rows, axis), curve(rival, axis), len(seeds))
        sentences.append(f"At equal {AXES[axis]}, {schedule} strength, means of {len(seeds)} seeds: {told}.")
    return sentences


def _excess(gft: Sequence[Point], cfg: Sequence[Point], seeds: int) -> str:
    """Where the first curve is above the second by more than the standard error of their difference."""
    compared = compare_at_equal_x(*([(point.x, point.distance) for point in curve] for curve in (gft, cfg)))
    if compared is None:
        return "the two curves have no point in common"
    spreads = [[(point.x, point.spread) for point in curve] for curve in (gft, cfg)]
    errors = [math.hypot(*(lowest_at(curve, x) or 0.0 for curve in spreads)) / math.sqrt(seeds) for x in compared.at]
    above = [(gap, error) for gap, error in zip(compared.gaps, errors, strict=True) if gap > error]
    if not above:
        return "GFT is nowhere above CFG by more than the standard error of the difference"
    gap, error = max(above)
    return (
        "**GFT is above CFG by more than the standard error** of the difference at "
        f"{len(above) / len(errors):.0%} of the range, at most by {gap:.2f}, where that is {error:.2f}"
    )


def draw(folder: Path) -> bool:
    """Writes `curves.png` of a folder of results; False where it has no table."""
    from matplotlib.figure import Figure

    found = list(curves(folder))
    if not found:
        return False
    axis = axis_of([row for _, _, rows in found for row in rows])
    several = len({schedule for _, schedule, _ in found}) > 1
    figure = Figure(figsize=(7, 5), layout="constrained")
    plot = figure.subplots()
    shown = []
    for way, schedule, rows in found:
        points = curve(rows, axis)
        name = f"{way.name}, {schedule}" if several else way.name
        _draw_one(plot, points, name, way.colour, "-" if schedule == "constant" else "--")
        shown.append(points)
    _frame(plot, shown)
    seeds = len({row["seed"] for _, _, rows in found for row in rows})
    many = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    plot.set(xlabel=AXES[axis], ylabel="Fréchet distance", title=f"{title(folder.name)}: {many}")
    plot.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3 if len(found) > 2 else 2, fontsize=8)
    figure.savefig(folder / "curves.png", dpi=130)
    return True


def _draw_one(plot: Any, points: Sequence[Point], name: str, colour: str, style: str) -> None:
    x, y = [point.x for point in points], [point.distance for point in points]
    plot.plot(x, y, style, marker="o", markersize=4, color=colour, label=name)
    low, high = ([point.distance + sign * point.spread for point in points] for sign in (-1, 1))
    plot.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for point in points:
        place = (point.x, point.distance)
        plot.annotate(point.label, place, xytext=(4, 4), textcoords="offset points", fontsize=7, annotation_clip=True)


def _frame(plot: Any, shown: Sequence[Sequence[Point]]) -> None:
    """From the best up to what no guidance gives, with some room."""
    top = FAR * max(points[0].distance + points[0].spread for points in shown)
    inside = [point for points in shown for point in points if point.distance <= top]
    room = 0.04 * (max(point.x for point in inside) - min(point.x for point in inside)) or 0.01
    plot.set_xlim(min(point.x for point in inside) - room, max(point.x for point in inside) + 2 * room)
    plot.set_ylim(0.9 * min(point.distance - point.spread for point in inside), top)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="default: all of docs/results")
    folders = parser.parse_args().folders or sorted(path.parent for path in RESULTS.glob("*/table.csv"))
    drawn = [folder for folder in folders if draw(folder)]
    print(f"drew {len(drawn)} curves.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
