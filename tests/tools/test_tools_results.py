"""The tools that measure and show results: the page is what the files give, and says where a claim fails."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest
from tool import load


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return load("results_page")


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def row(objective: str, guidance: str, strength: object, seed: int, frechet: float) -> dict[str, object]:
    return {
        "objective": objective, "guidance": guidance, "strength": strength, "schedule": "constant", "seed": seed,
        "passes": 2 if guidance == "cfg" else 1, "frechet": frechet, "accuracy": 0.9, "precision": 0.8, "recall": 0.7,
        "images": 100, "features": "f", "reference": "r",
    }  # fmt: skip


def results(folder: Path, gft: float) -> Path:
    rows = [row("conditional", "unguided", "", seed, 9.0 + seed) for seed in (0, 1)]
    rows += [row("conditional", "cfg", w, seed, d + seed) for seed in (0, 1) for w, d in ((1.5, 4.0), (3.0, 6.0))]
    rows += [row("gft", "beta", b, seed, d + seed) for seed in (0, 1) for b, d in ((1.0, 8.0), (0.5, gft))]
    write(folder / "dit-nano" / "table.csv", rows)
    return folder


def test_the_committed_page_is_what_the_files_give(pages: ModuleType) -> None:
    committed = (pages.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert committed == pages.page(pages.ROOT / "docs" / "results"), "run `python tools/results_page.py`"


def test_the_tables_of_speed_are_what_the_files_give() -> None:
    tables = load("speed_tables")
    assert "sampling-speed.csv" in (page := tables.PAGE.read_text(encoding="utf-8"))
    assert tables.filled(page) == page


def test_batches_of_a_network_stand_side_by_side() -> None:
    def row(batch: int, share: float, network: str = "", sampler: str = "steps=1") -> dict[str, str]:
        told = {"model": "a", "network": network, "sampler": sampler}
        return {**told, "batch": str(batch), "gft_over_cfg": str(share)}

    found = load("speed_tables").batches([row(8, 0.9), row(1, 0.6), row(8, 0.51), row(4, 0.55), row(4, 0.7, "depth 2")])
    assert [line.strip("| ").split(" | ") for line in found.splitlines()[2:]] == [
        ["`a`", "depth 2, steps=1", "", "0.70 (of 4)"],
        ["`a`", "whole, steps=1", "0.60", "0.55 (of 4), 0.51 (of 8)"],
    ]


def test_the_page_shows_the_best_strength_with_its_spread(pages: ModuleType, tmp_path: Path) -> None:
    text = pages.page(results(tmp_path, gft=3.5))
    assert "| base + CFG | w = 1.5 | 4.50 ± 0.71 | 90.0 ± 0.0 | 0.80 ± 0.00 | 0.70 ± 0.00 | 2 |" in text
    assert "| GFT, from scratch | beta = 0.5 | 4.00 ± 0.71 |" in text
    assert "- GFT, from scratch, against CFG: reached, 4.00 <= 4.50." in text


def test_models_of_one_package_share_a_table(pages: ModuleType, tmp_path: Path) -> None:
    for name in ("rar-nano", "rq-nano"):
        results(tmp_path, gft=3.5 if name == "rq-nano" else 4.9).joinpath("dit-nano").rename(tmp_path / name)
    text = pages.page(tmp_path)
    assert text.count("### ") == 1 and "### Autoregressive systems" in text
    assert "| `rar-nano` | 9.50 ± 0.71 | 4.50 ± 0.71 at w = 1.5 | 5.40 ± 0.71 at beta = 0.5 | 1.20 |" in text
    assert "| RAR on handwritten digits | 9.50 | 4.50 | 5.40 | 1.20 |  |  |" in text
    assert "| RQ-Transformer on handwritten digits | 9.50 | 4.50 | 4.00 | **0.89** |  |  |" in text
    assert "GFT from scratch is at or below CFG in 1 of 2." in text
    assert "| `rq-nano` | 9.50 ± 0.71 | 4.50 ± 0.71 at w = 1.5 | 4.00 ± 0.71 at beta = 0.5 | 0.89 |" in text


def test_the_page_says_where_gft_fails_and_by_how_much(pages: ModuleType, tmp_path: Path) -> None:
    text = pages.page(results(tmp_path, gft=4.9))
    assert "**not reached**, 5.40 is above 4.50 by 0.90 (20%)." in text


def test_the_page_says_what_is_missing(pages: ModuleType, tmp_path: Path) -> None:
    text = pages.page(results(tmp_path, gft=3.5))
    missing = text.partition("## Not reproduced")[2]
    assert "- var (var-nano): no comparison of GFT and CFG has been measured." in missing
    assert "- diffusion (dit-nano): GFT fine-tuned from the base model has not been measured." in missing
    assert "table 1) has not been measured" in missing and "study of beta) has not been measured" in missing
    write(tmp_path / "dit-nano" / "finetuned.csv", [row("gft-from-base", "beta", 0.5, 0, 5.0)])
    text = pages.page(tmp_path)
    assert "| GFT, fine-tuned from base | beta = 0.5 | 5.00 |" in text
    assert "fine-tuned from base, against CFG (1 seed): **not reached**, 5.00 is above 4.00 by 1.00 (25%)." in text
    assert "diffusion (dit-nano)" not in text.partition("## Not reproduced")[2]


def study() -> list[dict[str, object]]:
    """Two rules, two seeds, two temperatures; the second rule is better, most so at 0.5."""
    return [
        {
            "model": "var-nano", "steps": 10, "images": 100, "draw": draw, "p_drop": 0.1, "seed": seed, "beta": beta,
            "frechet": level + 2 * beta + seed, "accuracy": 0.9, "precision": 0.8, "recall": 0.7,
        }
        for draw, level in (("U(0, 1)", 5.0), ("U(0.3, 1)", 3.0)) for seed in (0, 1) for beta in (1.0, 0.5)
    ]  # fmt: skip


def test_the_page_shows_the_study_of_beta(pages: ModuleType, tmp_path: Path) -> None:
    write(results(tmp_path, gft=3.5) / "var-nano" / "beta.csv", study())
    text = pages.page(tmp_path)
    assert "| U(0, 1) | 0.1 | 6.50 ± 0.71 | 0.5 | 7.50 ± 0.71 |" in text
    assert "| U(0.3, 1) | 0.1 | 4.50 ± 0.71 | 0.5 | 5.50 ± 0.71 |" in text
    assert "study of beta) has not been measured" not in text
    assert "| U(0.3, 1) | 0.1 | 0.69 |" in text and "Rules that gain in every model: U(0.3, 1)." in text
    worse = [{**row, "frechet": float(str(row["frechet"])) + 9 * (row["draw"] != "U(0, 1)")} for row in study()]
    write(tmp_path / "dit-nano" / "beta.csv", worse)
    assert "Rules that gain in every model: none." in pages.page(tmp_path)


def test_the_study_draws_what_it_measured(tmp_path: Path) -> None:
    tool = load("beta_study")
    rules = list(tool.rules(tool.DROPS))
    assert len(set(rules)) == len(rules) == len(tool.DRAWS) + len(tool.DROPS) - 1
    rows = [{**row, "beta": beta} for row in study() for beta in tool.BETAS]
    tool.draw_figure([{**r, "draw": d, "p_drop": p} for r in rows for d, p in rules], tmp_path / "beta.png")
    assert (tmp_path / "beta.png").stat().st_size > 1000


def test_the_cost_of_an_update_is_counted_and_measured() -> None:
    cost = load("training_cost")
    rows = {row.objective: row for row in cost.measure("dit-nano", updates=2, batch=8, device="cpu")}
    assert set(rows) == {"gft", "conditional", "distill"}
    assert (rows["distill"].passes_with_gradient, rows["distill"].passes_without_gradient) == (1, 2)
    assert (rows["conditional"].passes_with_gradient, rows["conditional"].passes_without_gradient) == (1, 0)
    assert 0.5 < rows["gft"].passes_without_gradient <= 1  # dropped samples take no second pass
    assert rows["gft"].time_ratio == rows["gft"].memory_ratio == 1
    parameters = sum(p.numel() for p in cost.supported("dit-nano", 2, "cpu")["gft"].model.network.parameters())
    assert rows["distill"].memory_bytes > rows["gft"].memory_bytes > 3 * 4 * parameters
    assert (rows["distill"].paper_time_ratio, rows["distill"].paper_memory_ratio) == (1.19, 1.15)
