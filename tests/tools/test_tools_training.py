"""The tools that measure training, at nano size on a CPU."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from tool import load

from gftzoo.engine import Job
from gftzoo.engine.parallel.place import Place
from gftzoo.loading import load as load_model
from gftzoo.zoo import get_card


def test_throughput_writes_a_row_for_each_way_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load("throughput")
    monkeypatch.setattr(tool.Bench, "compile", lambda bench: None)  # takes long; the conformance kit compiles
    out = tmp_path / "rows.csv"
    words = ["--models", "dit-nano", "var-nano", "--device", "cpu", "--batch", "2", "--seconds", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["throughput.py", *words])
    assert tool.main() == 0 and tool.main() == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    ways = [
        (name, o, b) for name in ("dit-nano", "var-nano") for o in ("conditional", "gft") for b in ("eager", "compiled")
    ]
    assert [(row["model"], row["objective"], row["blocks"]) for row in rows] == 2 * ways
    assert all(
        float(row["images_per_second"]) == pytest.approx(2 / float(row["seconds_per_step"]), 0.01) for row in rows
    )
    assert all(row["commit"] and row["torch"] and row["precision"] == "bf16" for row in rows)
    assert all(bool(row["over_plain"]) == (row["objective"] == "gft") for row in rows)


def test_throughput_trains_the_full_models_on_their_own_latents() -> None:
    tool = load("throughput")
    for name in tool.MODELS:
        config = tool.configuration(name, "gft", 2, "bf16")
        assert config.card.resolution == 256 and config.card.classes == 1000 and config.card.temperature
        assert tool.estimate.training_cost(Job(config), Place(torch.device("cpu"))).flops_per_image > 1e11


@pytest.mark.parametrize("name", ["rq-480m", "var-d16"])
def test_codes_of_a_random_tokenizer_have_the_published_vectors(name: str) -> None:
    spec, tokenizer = get_card(name).tokenizer, load("throughput").random_tokenizer(get_card(name))
    assert (spec.codebook, spec.channels) in {tuple(table.shape) for table in tokenizer.state_dict().values()}


def test_a_small_prior_gives_a_decoder_its_embeddings(tmp_path: Path) -> None:
    load("small_prior").write(tmp_path, heads=2, head_width=8)
    prior = load_model(tmp_path)
    seen_BD11 = torch.randn(3, 768, 1, 1)
    assert prior.card.family == "unclip-prior"
    assert torch.equal(prior.require_tokenizer().embeddings(seen_BD11), seen_BD11.flatten(1))


def test_two_versions_are_told_beside_each_other(tmp_path: Path, monkeypatch, capsys) -> None:
    """With this process in the place of both, and little data."""
    before_after, probe = load("before_after"), load("version_probe")

    def least(_, rounds: int, what: str, *words: str, **how: object) -> tuple[dict[str, float], dict[str, float]]:
        return (probe.opening(*words),) * 2 if what == "opening" else ({}, {})

    monkeypatch.setattr(before_after.Versions, "least", least)
    for part in ("start_up", "single_operations", "whole_steps", "relative", "same_work"):
        row = before_after.Row(part, "unit", 2.0, 2.0 if part == "start_up" else 3.0, 1.5)
        monkeypatch.setattr(before_after, part, lambda *_, row=row: [row])

    def cannot(*_: object) -> None:
        raise before_after.NotMeasured("an option of old")

    monkeypatch.setattr(before_after, "same_work", cannot)
    rows = before_after.measure(sys.executable, 1, 20, 20)
    before_after.write(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["after_over_before"] for row in kept if row["item"] in ("start_up", "whole_steps")] == ["1.00", "1.50"]
    assert sum(row["item"].startswith("opening") and float(row["before"]) > 0 for row in kept) == 4
    *_, said = lines = capsys.readouterr().out.splitlines()
    assert "single_operations" in said and "start_up" not in said
    assert "an option of old" in lines and "not measured: 1." in said


def test_what_a_version_said_that_could_not_be_measured_is_told(tmp_path: Path) -> None:
    before_after = load("before_after")
    with pytest.raises(before_after.NotMeasured, match=r"opening nowhere:x'[\s\S]*nowhere"):
        before_after.Versions(sys.executable, tmp_path).probe("opening", "nowhere:x")
