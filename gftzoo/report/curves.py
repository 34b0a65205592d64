"""Curves as inline SVG: no script, no library, no file beside the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 220, 58, 26, 10
MOST_POINTS = 600  # of a line; more are averaged
COLOURS = ("#1f5fa8", "#c2410c", "#15803d", "#7c3aed", "#b91c1c", "#0f766e")
Points = Sequence[tuple[float, float]]


def chart(name: str, lines: Mapping[str, Points]) -> str:
    """One chart as `<svg>`: a line through the points (x, y) of each name, axes with round numbers, and a legend.

    Points that are no numbers are left out; the empty string where none is left.
    """
    kept = {label: thinned([p for p in points if all(map(math.isfinite, p))]) for label, points in lines.items()}
    kept = {label: points for label, points in kept.items() if points}
    if not kept:
        return ""
    xs, ys = zip(*(point for points in kept.values() for point in points), strict=True)
    across, up = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - 10)
        return round(right, 1), round(HEIGHT - BOTTOM - (y - y0) / ((y1 - y0) or 1) * (HEIGHT - BOTTOM - TOP), 1)

    parts = [_across(place(x0, y)[1], y) for y in up] + [_below(place(x, y0)[0], x) for x in across]
    for colour, (label, points) in zip(COLOURS * len(kept), kept.items(), strict=False):
        parts.append(_line([place(x, y) for x, y in points], colour, label))
    legend = (
        " ".join(_key(colour, label) for colour, label in zip(COLOURS, kept, strict=False)) if len(kept) > 1 else ""
    )
    drawn = "".join(parts)
    return (
        f'<figure class="chart"><figcaption>{escape(name)} {legend}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">{drawn}</svg></figure>'
    )


def thinned(points: Points) -> Points:
    """At most so many points: means of as many neighbours."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]


def ticks(least: float, most: float) -> list[float]:
    """Three to six round numbers between two numbers."""
    span = most - least
    if not span > 0 or not math.isfinite(span):
        return [least]
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next((power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5), power * 10)
    first = math.ceil(least / step)
    return [number * step for number in range(first, math.floor(most / step) + 1)] or [least]


def written(number: float) -> str:
    """A number as an axis has it."""
    size = abs(number)
    if size >= 1e6 or (0 < size < 1e-3):
        return f"{number:.3g}"
    return f"{number:,.6g}" if size < 1e3 else f"{number:,.0f}"


def _across(y: float, value: float) -> str:
    return (
        f'<line class="rule" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{written(value)}</text>'
    )


def _below(x: float, value: float) -> str:
    return f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{written(value)}</text>'


def _line(points: Points, colour: str, label: str) -> str:
    if len(points) == 1:
        (x, y) = points[0]
        return f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"><title>{escape(label)}</title></circle>'
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" stroke="{colour}"><title>{escape(label)}</title></polyline>'


def _key(colour: str, label: str) -> str:
    return f'<span class="key"><i style="background:{colour}"></i>{escape(label)}</span>'
