"""The loss on held-out images: it moves with the weights alone, changes no weight, and finds the best checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from nano import nano_model
from runs import final, interrupted, same, small

from gftzoo.data import open_source
from gftzoo.engine import TrainConfig, checkpoints, train
from gftzoo.engine.record.samples import SampleHook
from gftzoo.engine.record.validating import BETAS, Validation, ValidationHook, open_held_out
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate import scoring
from gftzoo.loading import load
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.report.reading import RunFolder

pytestmark = pytest.mark.usefixtures("without_pictures")

HELD_OUT = {"validation": "held-out", "validation_images": 24, "checkpoint_every": 2}


def losses(model: Model, **options: object) -> dict[str, float]:
    config = small("dit-nano", 2, **{**HELD_OUT, **options})
    objective = build_objective(str(options.pop("objective", "gft")), {})
    return Validation(config, model, objective, open_held_out(config)).losses(None)


def test_the_loss_is_a_function_of_the_weights_and_not_of_the_batch() -> None:
    model = nano_model("dit-nano", temperature=True)
    model.network.train()
    first = losses(model)
    assert set(first) == {f"beta {beta:g}" for beta in BETAS} and model.network.training
    torch.manual_seed(7)
    assert losses(model) == first
    assert losses(model, batch_size=5) == pytest.approx(first, rel=1e-5)
    with torch.no_grad():
        next(model.network.parameters()).mul_(1.5)
    assert losses(model) != first


def test_validation_changes_no_weight_and_is_told_of(tmp_path: Path) -> None:
    with_it = train(small("dit-nano", 4, **HELD_OUT), tmp_path / "with")
    without = train(small("dit-nano", 4, checkpoint_every=2), tmp_path / "without")
    assert same(final(with_it), final(without)) and same(final(with_it, "ema"), final(without, "ema"))
    rows = RunFolder(with_it).rows
    assert [row["step"] for row in rows if "validation.beta 0.33" in row] == [2, 4] and rows[-1]["loss"] > 0
    assert (
        "validation loss" in (with_it / "report.html").read_text() and "beta 0.66" in (with_it / "log.txt").read_text()
    )


def measured(values: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter(values)
    monkeypatch.setattr(Validation, "losses", lambda self, half: {"beta 1": next(given)})


def test_the_best_checkpoint_is_kept_and_a_run_that_gets_no_better_ends(tmp_path: Path, monkeypatch) -> None:
    measured([3.0, 1.0, 2.0, 2.5, 9.0], monkeypatch)
    config = small("dit-nano", 20, **{**HELD_OUT, "checkpoint_every": 1}, keep_last=1, patience=2)
    run = train(config, tmp_path / "run")
    assert [path.name for path in checkpoints.all_checkpoints(run)] == ["step-00000002", "step-00000004"]
    assert (run / "checkpoint_best").resolve().name == "step-00000002"
    assert load(run / "checkpoint_best").provenance["step"] == 2 and load(run).provenance["step"] == 4
    assert "no better at 2 checkpoints: the run ends at step 4" in (run / "log.txt").read_text()


def test_a_resumed_run_knows_its_best(tmp_path: Path, monkeypatch) -> None:
    measured([1.0, 2.0, 3.0], monkeypatch)
    config = small("dit-nano", 6, **HELD_OUT, patience=2)
    interrupted(config, tmp_path / "run", 4, monkeypatch)  # at 4 it is cut before it has measured
    measured([2.0, 3.0], monkeypatch)
    train(config, tmp_path / "run", resume=True)
    known = {"measure": "validation", "step": 6, "best": 1.0, "since": 1}
    assert json.loads((tmp_path / "run" / "best.json").read_text()) == known
    assert (tmp_path / "run" / "checkpoint_best").resolve().name == "step-00000002"


SCORED = {"score.every": 2, "score.images": 4, "checkpoint_every": 3, "keep_last": 1, "sample_grid": [1, 1]}


def scored(values: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that has learned nothing, and distances as they are given, None as they are."""
    given = iter(values)
    real = scoring.score

    def score(*arguments: object) -> object:
        found, value = real(*arguments), next(given)
        return found.model_copy(update={"frechet": value})

    monkeypatch.setattr("gftzoo.evaluate.embedded._train", lambda *_: None)
    monkeypatch.setattr("gftzoo.evaluate.evaluator.score", score)


@pytest.mark.parametrize("kind", ["adamw", "schedule-free"])
def test_samples_are_scored_on_the_way_and_the_best_checkpoint_is_kept(kind: str, tmp_path: Path, monkeypatch) -> None:
    options = {"optimizer.kind": kind, "ema_decay": 0.5 if kind == "adamw" else None}
    if kind == "schedule-free":
        pytest.importorskip("schedulefree")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scored([3.0, 2.0, math.nan, 2.5, 9.0], monkeypatch)
    quick = small("dit-nano", 9, **SCORED, **options, patience=2)
    drawn = list[int]()
    monkeypatch.setattr(SampleHook, "_draw_final", lambda _, runner: drawn.append(runner.iter))
    quick = quick.model_copy(update={"card": quick.card.change(sampler={"steps": 2})})
    run = train(quick, tmp_path / "run")
    assert [path.name for path in checkpoints.all_checkpoints(run)] == ["step-00000004", "step-00000008"]
    assert (run / "checkpoint_best").resolve().name == "step-00000004"
    assert drawn == [8]  # as at the end of a whole run
    found = RunFolder(run)
    assert found.state == "ended early" and (found.step, found.steps) == (8, 9)
    assert [row["step"] for row in found.rows if "score.FD-digits-classifier" in row] == [2, 4, 6, 8]
    assert [record["name"] for record in found.scores] == [f"step-0000000{step}" for step in (2, 4, 6, 8)]
    assert found.scores[0]["measure"]["images"] == 4 and found.scores[0]["subject"]["strength"] == 0.5
    log = (run / "log.txt").read_text()
    assert ("score got no better at 2 checkpoints: the run ends at step 8" in log and "(ema)" in log) or kind != "adamw"
    plain = quick.model_copy(update={"score": small("dit-nano", 1).score, "patience": None, "steps": 8})
    assert same(final(run), final(train(plain, tmp_path / "plain")))


def test_a_score_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no reference 'nothing'"):
        train(small("dit-nano", 2, **{**SCORED, "score.reference": "nothing"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_objective_has_its_own_loss() -> None:
    config = small("dit-nano", 1)
    plain = Model.fresh(config.card.change(temperature=False), load("dit-nano").tokenizer)
    assert set(losses(plain, objective="conditional")) == {""}


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ("imagefolder:nowhere", "no folder"),
        ("emoji-nature", "has the classes|offers"),
        ("emoji-captions", "offers text"),
    ],
)
def test_what_cannot_be_validated_on_is_refused_before_anything_is_made(
    validation: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(GftzooError, match=said):
        train(small("dit-nano", 1, validation=validation), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_patience_needs_something_to_wait_for() -> None:
    with pytest.raises(UsageError, match="patience waits for a better validation or score"):
        small("dit-nano", 1, patience=2)


def test_images_are_spread_over_what_is_held_out() -> None:
    config = small("dit-nano", 1, **HELD_OUT)
    source = open_source("digits", "held-out")
    rows = [row for row, _ in Validation(config, Model.fresh(config.card), build_objective("gft", {}), source).keys]
    assert len(set(rows)) == 24 and rows[-1] > len(source) * 0.9
    assert isinstance(config, TrainConfig) and ValidationHook.priority == "VERY_LOW"
