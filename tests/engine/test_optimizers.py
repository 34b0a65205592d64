"""The optimizers by name: which parameters each moves, and runs that resume to the bit with any of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nano import nano_model
from runs import final, interrupted, same, small

from gftzoo.engine import Job, train
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import training_cost
from gftzoo.engine.step.optimizers import Together, build_optimizer, matrices, moments
from gftzoo.errors import UsageError


def muon(steps: int = 1, **options: object) -> object:
    return small("dit-nano", steps, **{"optimizer.kind": "muon", **options})


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


def test_its_state_is_what_was_estimated() -> None:
    model = nano_model("dit-nano", temperature=True)
    for config in (muon(), small("dit-nano", 1)):
        optimizer = build_optimizer(model.network, model.family, config)
        for parameter in model.network.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step()
        kept = [value for state in optimizer.state.values() for key, value in state.items() if key != "step"]
        assert sum(value.numel() for value in kept) == moments(model.network, model.family, config)
    place = Place(torch.device("cpu"))
    less, more = (training_cost(Job(config), place).state_bytes for config in (muon(), small("dit-nano", 1)))
    assert less == more - 4 * sum(p.numel() for p in matrices(model.network, model.family))


def test_a_run_with_muon_learns_and_resumes_to_the_bit(tmp_path: Path, monkeypatch) -> None:
    config = muon(4, checkpoint_every=2)
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "run", 2, monkeypatch)
    train(config, tmp_path / "run", resume=True)
    assert same(final(tmp_path / "whole"), final(tmp_path / "run"))
    assert same(final(tmp_path / "whole", "optimizer"), final(tmp_path / "run", "optimizer"))
    train(small("dit-nano", 4), tmp_path / "adamw")
    assert not same(final(tmp_path / "whole"), final(tmp_path / "adamw"))


def test_an_optimizer_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match=r"optimizer\.kind = 'lion'.*'adamw' or 'muon'"):
        small("dit-nano", 1, **{"optimizer.kind": "lion"})
    with pytest.raises(UsageError, match="muon needs whole matrices"):
        muon(parallel="fsdp")
