"""How beta is drawn, for tools/results_page.py: the sections of tools/beta_study.py's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from results_rows import Row, mean, spread

PUBLISHED_RULE = ("U(0, 1)", "0.1")


def beta_section(folder: Path, rows: Sequence[Row]) -> str:
    """The best distance under each rule for beta and the dropped conditions."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["draw"], row["p_drop"]), []).append(row)
    lines = [
        f"{rows[0]['steps']} steps, {len({r['seed'] for r in rows})} seeds, {rows[0]['images']} images per point.",
        "",
        "| beta in training | p_drop | best distance | at beta | distance at beta = 1 |",
        "|---|---|---|---|---|",
    ]
    for (draw, p_drop), group in groups.items():
        by_beta = {beta: [r for r in group if r["beta"] == beta] for beta in dict.fromkeys(r["beta"] for r in group)}
        at = min(by_beta, key=lambda beta: mean(by_beta[beta], "frechet"))
        plain = spread(by_beta["1.0"], "frechet") if "1.0" in by_beta else ""
        lines.append(f"| {draw} | {p_drop} | {spread(by_beta[at], 'frechet')} | {float(at):g} | {plain} |")
    if (folder / "beta.png").is_file():
        lines += ["", f"![rules for beta, {folder.name}](results/{folder.name}/beta.png)"]
    return "\n".join(lines)


def best_distance(rows: Sequence[Row]) -> float:
    """The mean distance over seeds at the sampling temperature that is best for it."""
    return min(mean([r for r in rows if r["beta"] == beta], "frechet") for beta in {r["beta"] for r in rows})


def verdict(studies: Sequence[tuple[Path, Sequence[Row]]]) -> str:
    """Rules that every study has: their best distance over the published rule's, and which of them gain everywhere."""
    found: dict[tuple[str, str], list[float]] = {}
    for _, rows in studies:
        published = best_distance([r for r in rows if (r["draw"], r["p_drop"]) == PUBLISHED_RULE])
        for rule in dict.fromkeys((r["draw"], r["p_drop"]) for r in rows):
            own = best_distance([r for r in rows if (r["draw"], r["p_drop"]) == rule])
            found.setdefault(rule, []).append(own / published)
    everywhere = {rule: ratios for rule, ratios in found.items() if len(ratios) == len(studies)}
    names = [folder.name for folder, _ in studies]
    lines = ["Best distance of a rule over that of the published one; below 1 is better:", ""]
    lines += [f"| beta in training | p_drop | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for (draw, p_drop), ratios in everywhere.items():
        lines.append(f"| {draw} | {p_drop} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    gains = [draw for (draw, _), ratios in everywhere.items() if max(ratios) < 1]
    lines += ["", f"Rules that gain in every model: {'; '.join(gains) or 'none'}."]
    return "\n".join(lines)
