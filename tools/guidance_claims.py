"""What tools/guidance_table.py says of its records: the rows of the table, and sentences about them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from guidance_runs import axis_of, value

from gftzoo.evaluate.frontier import Point, compare_at_equal_x
from gftzoo.evaluate.records import ScoreRecord
from gftzoo.evaluate.scoring import Scores

Key = tuple[str, float | None, str]


def grouped(records: Sequence[ScoreRecord]) -> dict[Key, list[ScoreRecord]]:
    """Records of the same row, one per seed."""
    groups: dict[Key, list[ScoreRecord]] = {}
    for record in records:
        subject = record.subject
        groups.setdefault((subject.guidance, subject.strength, subject.schedule), []).append(record)
    return groups


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and, over two or more seeds, sample standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


NAMES = {"unguided": "unguided", "cfg": "CFG", "beta": "GFT"}


def table(records: Sequence[ScoreRecord], real: Scores, seconds: Mapping[str, float]) -> str:
    """The Markdown table; the best distance of CFG and of GFT is bold. `seconds` per image are those of a kind."""
    groups = grouped(records)
    lines = [
        f"| guidance | strength | {distance_title(records[0])} | accuracy % | IS-like | precision | recall "
        "| forwards per step | ms per image | time, unguided = 1 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    best = {
        kind: min((k for k in groups if k[0] == kind), key=lambda k: mean_fd(groups[k])) for kind in ("cfg", "beta")
    }
    for key, group in groups.items():
        kind, strength, schedule = key
        shown = "" if strength is None else f"{'w' if kind == 'cfg' else 'beta'} = {strength:g}"
        distance = spread([r.scores.frechet for r in group])
        lines.append(
            f"| {NAMES[kind]} | {shown}{'' if schedule == 'constant' else f' ({schedule})'} "
            f"| {f'**{distance}**' if key in best.values() else distance} "
            f"| {score_cells([r.scores for r in group])} "
            f"| {group[0].passes} | {1000 * seconds[kind]:.2f} | {seconds[kind] / seconds['unguided']:.2f} |"
        )
    other = "held-out split" if " train (" in records[0].measure.reference else "train split"
    lines.append(f"| real images | {other} | {real.frechet:.2f} | {score_cells([real])} | | | |")
    return "\n".join(lines)


def score_cells(group: Sequence[Scores]) -> str:
    """Accuracy, IS-like, precision and recall; a score that there is not leaves its cell empty."""
    cells = []
    for name, scale, digits in (("accuracy", 100, 1), ("inception_score", 1, 2), ("precision", 1, 2), ("recall", 1, 2)):
        found = [getattr(scores, name) for scores in group]
        cells.append("" if None in found else spread([scale * score for score in found], digits))
    return " | ".join(cells)


def distance_title(record: ScoreRecord) -> str:
    known = record.scores.accuracy is not None
    return "FID (features of a small classifier)" if known else record.measure.distance_name


def mean_fd(group: Sequence[ScoreRecord]) -> float:
    return statistics.fmean(record.scores.frechet for record in group)


def curve(records: Sequence[ScoreRecord], objective: str, seed: int, schedule: str) -> list[ScoreRecord]:
    """One seed's curve, from no guidance to the strongest."""
    return [
        r
        for r in records
        if (r.subject.objective, r.subject.seed) == (objective, seed)
        and (r.subject.schedule == schedule or r.subject.strength in (None, 1.0))
    ]


def points(records: Sequence[ScoreRecord], objective: str, seeds: Sequence[int], schedule: str) -> list[Point]:
    """The curve of the mean over `seeds`: (accuracy or precision, distance) of each strength."""
    axis = axis_of(records)
    curves = [curve(records, objective, seed, schedule) for seed in seeds]
    return [
        (statistics.fmean(value(r, axis) for r in row), statistics.fmean(r.scores.frechet for r in row))
        for row in zip(*curves, strict=True)
    ]


def at_equal_accuracy(records: Sequence[ScoreRecord], seeds: Sequence[int], schedule: str) -> str:
    """GFT's distance minus CFG's at equal accuracy (or precision), over the range that both mean curves cover."""
    axis = axis_of(records)
    who = f"Equal {axis}, {f'seed {seeds[0]}' if len(seeds) == 1 else f'mean of {len(seeds)} seeds'}, {schedule}"
    found = compare_at_equal_x(*(points(records, objective, seeds, schedule) for objective in ("gft", "conditional")))
    if found is None:
        return f"{who}: the two curves share no {axis}."
    return (
        f"{who} ({100 * found.at[0]:.1f} to {100 * found.at[-1]:.1f} %): GFT minus CFG is "
        f"{found.mean:+.2f} on average, at most {max(found.gaps):+.2f}; GFT is not above CFG at "
        f"{100 * found.share_not_above:.0f} % of the range."
    )


def claims(records: Sequence[ScoreRecord], seeds: Sequence[int], schedules: Sequence[str]) -> list[str]:
    """What the table shows, in sentences that say so too where it does not."""
    groups = grouped(records)
    unguided = mean_fd(groups["unguided", None, "constant"])
    best_cfg = min(mean_fd(group) for key, group in groups.items() if key[0] == "cfg")
    best_gft = min(mean_fd(group) for key, group in groups.items() if key[0] == "beta")
    lines = [
        f"Best GFT {best_gft:.2f} against best CFG {best_cfg:.2f}: GFT is "
        f"{'not above' if best_gft <= best_cfg else 'ABOVE'} CFG, with one forward per step for two.",
        f"Best GFT is {best_gft / unguided:.2f}x the unguided {unguided:.2f}.",
    ]
    for schedule in schedules:
        groups_of_seeds = [list(seeds), *([seed] for seed in seeds)] if len(seeds) > 1 else [list(seeds)]
        lines += [at_equal_accuracy(records, group, schedule) for group in groups_of_seeds]
    return lines
