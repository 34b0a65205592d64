"""The report of a GPU, at nano size on whatever device is here."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from tool import load


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_report_is_made_although_a_check_and_a_part_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("throughput", "sampling_speed", "gpu_checks"):
        load(name)
    tool = load("gpu_report")

    def here(name: str, out: Path, nano: bool) -> str | None:
        """A part in this process: three interpreters less to start."""
        if name == "sampling":
            sys_exit = tool.run_part_of(["-c", "raise SystemExit(3)"], name)
            assert sys_exit == "part 'sampling' ended with code 3"
        tool.PARTS[name](tool.Plan(out, nano, float("inf")))
        return sys_exit if name == "sampling" else None

    def broken(device: object) -> str:
        raise RuntimeError("an illegal memory access\nand more")

    monkeypatch.setattr(tool, "run_part", here)
    monkeypatch.setitem(tool.CHECKS, "broken", broken)
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", str(tmp_path), "--nano"])
    assert tool.main() == 1
    results = {row["check"]: row["result"] for row in rows(tmp_path / "checks.csv")}
    assert results.pop("broken") == "failed" and set(results.values()) == {"passed"}, rows(tmp_path / "checks.csv")
    trained = [(row["model"], row["objective"]) for row in rows(tmp_path / "training.csv")]
    assert trained == [(name, objective) for name in tool.NANO for objective in tool.OBJECTIVES]
    sampled = rows(tmp_path / "sampling.csv")
    assert [(row["precision"], row["model"], row["batch"]) for row in sampled] == [
        (precision, name, batch) for precision in ("fp32", "bf16") for name in tool.NANO for batch in ("1", "2")
    ]
    page = (tmp_path / "gpu.md").read_text()
    assert "**Not whole:** part 'sampling' ended with code 3; broken failed." in page
    assert "an illegal memory access" in page and "| var-nano | gft, lora |" in page
