"""The tools that measure temperatures: what is given of what is asked, and what a prediction costs."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from nano import nano_model
from runs import SMALL
from tool import load

import gftzoo.zoo
from gftzoo.engine import resolve, train


@pytest.mark.parametrize("name", ["dit-nano", "llamagen-nano"])
def test_a_slope_gives_strengths_on_a_line(name: str) -> None:
    model = nano_model(name, temperature=True, temperature_input="affine")
    steps = load("strength").Steps(model, model.card.data, 16)
    half, quarter = (steps.given(beta) - 1 for beta in (0.5, 0.25))
    assert abs(half) > 1e-3
    assert quarter == pytest.approx(3 * half, rel=1e-3)  # 1/beta - 1 is 1 and 3


def test_strength_writes_a_row_for_each_temperature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = tmp_path / "run", tmp_path / "rows.csv"
    train(resolve("var-nano", objective="gft", steps=2, options=SMALL), run)
    monkeypatch.setattr(sys, "argv", ["strength.py", str(run), "--images", "8", "--out", str(out)])
    tool = load("strength")
    assert tool.main() == 0
    rows = list(csv.DictReader(out.open()))
    assert [float(row["beta"]) for row in rows] == list(tool.BETAS)
    assert all(float(row["share"]) == pytest.approx(float(row["given"]) / float(row["asked"]), 0.01) for row in rows)


def test_temperature_cost_compares_every_input_with_the_plain_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("training_cost"), load("adapter_cost")
    tool, out = load("temperature_cost"), tmp_path / "rows.csv"
    monkeypatch.setattr(sys, "argv", ["temperature_cost.py", "dit-nano:2", "--rounds", "1", "--out", str(out)])
    assert tool.main() == 0
    rows = {row["temperature"]: row for row in csv.DictReader(out.open())}
    assert list(rows) == list(tool.INPUTS)
    card = gftzoo.zoo.get_card("dit-nano")
    assert int(rows["plain"]["parameters"]) == card.parameters
    assert int(rows["embedding"]["parameters"]) == card.parameters_gft
    assert float(rows["plain"]["time_ratio"]) == 1
