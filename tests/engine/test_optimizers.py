"""The optimizers by name: which parameters each moves, and runs that resume to the bit with any of them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from nano import nano_model
from runs import final, interrupted, same, small

from gftzoo.engine import Job, TrainConfig, checkpoints, resolve, train
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import training_cost
from gftzoo.engine.run.written import overridden
from gftzoo.engine.step.counting import shown_weights
from gftzoo.engine.step.optimizers import PACKAGES, Together, build_optimizer, kept_bytes, matrices
from gftzoo.errors import GftzooError, UsageError
from gftzoo.loading import load

pytestmark = pytest.mark.usefixtures("without_pictures")

KINDS = ("adamw", "adamw-8bit", "muon", "schedule-free", "prodigy")


def with_optimizer(kind: str, steps: int = 1, **options: object) -> TrainConfig:
    """A short run with an optimizer; those whose package is not here skip the test."""
    if kind in PACKAGES:
        pytest.importorskip(PACKAGES[kind])
    own = {"ema_decay": None} if kind == "schedule-free" else {}
    return small("dit-nano", steps, **{"optimizer.kind": kind, **own, **options})


def muon(steps: int = 1, **options: object) -> TrainConfig:
    return with_optimizer("muon", steps, **options)


def test_muon_moves_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    model = nano_model("dit-nano", temperature=True)
    config = muon(**{"optimizer.momentum": 0.9})
    optimizer = build_optimizer(model.network, model.family, config)
    assert isinstance(optimizer, Together)
    first, second = optimizer.optimizers
    ours = {id(p) for group in first.param_groups for p in group["params"]}
    rest = {id(p) for group in second.param_groups for p in group["params"]}
    assert isinstance(first, torch.optim.Muon) and isinstance(second, torch.optim.AdamW)
    assert ours == {id(p) for p in matrices(model.network, model.family)} and not ours & rest
    assert ours | rest == {id(p) for p in model.network.parameters() if p.requires_grad}
    assert all(p.ndim == 2 for group in first.param_groups for p in group["params"])
    assert first.param_groups[0]["momentum"] == 0.9
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the schedule sets the rate of all, through the whole
    assert all(group["lr"] == 0.0 for each in optimizer.optimizers for group in each.param_groups)


@pytest.mark.parametrize("kind", KINDS)
def test_its_state_is_what_was_estimated(kind: str) -> None:
    model, config = nano_model("dit-nano", temperature=True), with_optimizer(kind)
    for parameter in model.network.parameters():
        parameter.data += 0.01  # none is zero, of which Prodigy keeps less
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer = build_optimizer(model.network, model.family, config)
    optimizer.step()
    tables = ("step", "qmap1", "qmap2")  # which do not grow with the parameter
    kept = [value for state in optimizer.state.values() for key, value in state.items() if key not in tables]
    expected = kept_bytes(model.network, model.family, config)
    assert sum(value.numel() * value.element_size() for value in kept) == pytest.approx(expected, rel=1e-3)
    plain = small("dit-nano", 1, ema_decay=config.ema_decay)
    costs = [training_cost(Job(each), Place(torch.device("cpu"))).state_bytes for each in (config, plain)]
    assert costs[0] - costs[1] == pytest.approx(expected - kept_bytes(model.network, model.family, plain))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_run_learns_with_it_and_resumes_to_the_bit(kind: str, tmp_path: Path, monkeypatch) -> None:
    config = with_optimizer(kind, 5, checkpoint_every=3)
    train(config, tmp_path / "whole")
    interrupted(config.model_copy(update={"checkpoint_every": 2}), tmp_path / "run", 2, monkeypatch)
    train(config, tmp_path / "run", resume=True)
    whole, found = tmp_path / "whole", tmp_path / "run"
    assert same(final(whole), final(found)) and same(final(whole, "optimizer"), final(found, "optimizer"))
    states = [checkpoints.read_state(checkpoints.newest(each))["optimizer"] for each in (whole, found)]
    assert states[0] == states[1] and bool(states[0]) == (kind in ("schedule-free", "prodigy"))
    train(small("dit-nano", 5), tmp_path / "adamw")
    assert not same(final(whole), final(tmp_path / "adamw"))


def test_an_optimizer_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match=r"optimizer\.kind = 'lion'.*'schedule-free' or 'prodigy'"):
        small("dit-nano", 1, **{"optimizer.kind": "lion"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer.kind": "muon", "parallel": "fsdp"}, "muon needs whole parameters"),
        ({"optimizer.kind": "schedule-free"}, "average of its own"),  # `small` names an average
        ({"optimizer.kind": "prodigy", "betas": [0, 0.9]}, "a first of betas above 0"),
    ],
)
def test_what_an_optimizer_cannot_do_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        small("dit-nano", 1, **options)


def test_an_optimizer_brings_the_rate_and_the_average_that_suit_it() -> None:
    prodigy = resolve("var-nano", options={"optimizer.kind": "prodigy"})
    free = resolve("var-nano", options={"optimizer.kind": "schedule-free"})
    assert prodigy.lr == 1 and free.ema_decay is None and free.learning_rate.kind == "constant"
    assert resolve("var-nano", options={"optimizer.kind": "prodigy", "lr": 0.5}).lr == 0.5
    later = overridden(resolve("var-nano"), {"optimizer.kind": "schedule-free"})
    assert isinstance(later, TrainConfig) and later.optimizer == free.optimizer
    assert (later.lr, later.ema_decay, later.learning_rate.kind) == (free.lr, None, "constant")


def test_a_missing_package_is_a_sentence_before_anything_is_made(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    config = small("dit-nano", 1, **{"optimizer.kind": "schedule-free", "ema_decay": None})
    with pytest.raises(UsageError, match=r"needs the package 'schedulefree'.*gftzoo\[optimizers\]"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_8_bits_without_kernels_for_the_device_are_a_sentence(tmp_path: Path, monkeypatch) -> None:
    config = with_optimizer("adamw-8bit")
    step = import_module("bitsandbytes").optim.AdamW8bit
    monkeypatch.setattr(step, "step", lambda *_: (_ for _ in ()).throw(NotImplementedError("no kernel")))
    with pytest.raises(UsageError, match=r"no 8-bit AdamW for cpu .*no kernel.*take a GPU"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_schedule_free_shows_and_saves_is_its_average_and_training_goes_on_from_its_own(tmp_path: Path) -> None:
    run = train(with_optimizer("schedule-free", 3), tmp_path / "run")
    saved, kept = final(run), final(run, "optimizer")
    model = load(run)
    network, config = model.network, TrainConfig.read(run)
    moved = [name for name in saved if f"{name}/y" in kept]
    assert moved and all(not torch.equal(saved[name], kept[f"{name}/y"]) for name in moved if kept[f"{name}/z"].any())
    optimizer = build_optimizer(network, model.family, config)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    with shown_weights(optimizer):
        shown = dict(network.named_parameters())
        beta = config.betas[0]
        for name, parameter in shown.items():
            if parameter.requires_grad:  # y = (1 - beta) z + beta x
                mixed = parameter.lerp(optimizer.state[parameter]["z"], 1 - beta)
                torch.testing.assert_close(mixed, before[name])
    assert same(before, dict(network.named_parameters())) and optimizer.param_groups[0]["train_mode"]


def test_a_state_of_another_optimizer_is_damage_and_not_a_crash(tmp_path: Path) -> None:
    run = train(small("dit-nano", 2), tmp_path / "run")
    other = with_optimizer("schedule-free", 3)
    with pytest.raises(GftzooError, match=r"is damaged \(the optimizer lacks"):
        train(other, run, resume=True, accept_changes=True)
