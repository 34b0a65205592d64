"""A run that is made to fit its device: the estimate chooses, and a step that finds no memory is taken in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import final, small

from gftzoo.engine import Job, TrainConfig, train
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run import estimate
from gftzoo.engine.run.fitting import SHARE, fitted
from gftzoo.engine.step.memory import cut, finer, is_out_of_memory
from gftzoo.engine.step.module import TrainingModel
from gftzoo.errors import GftzooError

pytestmark = pytest.mark.usefixtures("without_pictures")

CPU = Place(torch.device("cpu"))


def room_for(config: TrainConfig, samples: float, recomputed: bool = False) -> float:
    """Bytes that the weights and the activations of so many samples take."""
    job = Job(config).changed(activation_checkpointing=recomputed, accumulate=config.batch_size)
    cost = estimate.training_cost(job, CPU)
    assert cost.activation_bytes is not None
    return (cost.state_bytes + estimate.LATER + samples * cost.activation_bytes) * 1.001 / SHARE


@pytest.mark.parametrize(
    ("samples", "options", "accumulate", "recomputes"),
    [
        (48, {}, 1, False),
        (24, {}, 2, False),
        (47, {}, 2, False),
        (8, {}, 6, False),
        (24, {"accumulate": 3}, 3, False),  # as it was given, although it need not be that many
        (3, {"activation_checkpointing": False}, 16, False),
    ],
)
def test_the_largest_micro_batch_that_fits_is_taken(samples, options, accumulate, recomputes) -> None:
    config = small("dit-nano", 1, **{"batch_size": 48, **options})
    fit = fitted(Job(config), CPU, room=room_for(config, samples))
    chosen = fit.job.config
    assert (chosen.accumulate, chosen.activation_checkpointing) == (accumulate, recomputes)
    assert fit.cost.step_bytes <= SHARE * fit.room
    real = estimate.training_cost(fit.job, CPU)  # what was scaled is what would have been traced
    assert real.step_bytes == pytest.approx(fit.cost.step_bytes)


def test_activations_are_recomputed_before_a_micro_batch_gets_small() -> None:
    config = small("dit-nano", 1, batch_size=64)
    fit = fitted(Job(config), CPU, room=room_for(config, 4))
    assert fit.job.config.activation_checkpointing and fit.micro_batch > 4
    kept = fitted(Job(small("dit-nano", 1, batch_size=64, activation_checkpointing=False)), CPU, room=fit.room)
    assert not kept.job.config.activation_checkpointing and kept.micro_batch == 4


def test_what_fits_nowhere_is_refused_with_the_least_that_it_needs() -> None:
    fit = fitted(Job(small("dit-nano", 1, batch_size=64)), CPU, room=2.0**20)
    assert fit.micro_batch == 1 and fit.job.config.activation_checkpointing


def test_ranks_share_the_batch() -> None:
    config = small("dit-nano", 1, batch_size=64)
    fit = fitted(Job(config), CPU, world=4, room=room_for(config, 8))
    assert fit.micro_batch == 8 and fit.job.config.accumulate == 2
    assert "2 micro-batches of 8 on each of 4 devices" in fit.sentence("cpu")


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=0, atol=1e-5)


def test_a_run_on_a_small_device_trains_without_an_option_what_a_large_one_does(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    config = small("dit-nano", 2, batch_size=32)
    train(config, tmp_path / "large")
    assert capsys.readouterr().err.startswith("A batch of 32 is taken at once")
    room = room_for(config, 8)
    monkeypatch.setattr(estimate, "available_bytes", lambda _: room)
    train(config, tmp_path / "small")
    assert capsys.readouterr().err.startswith("A batch of 32 is taken in 4 micro-batches of 8")
    assert TrainConfig.read(tmp_path / "small").accumulate == 4
    close(final(tmp_path / "large"), final(tmp_path / "small"))


def holds_at_most(samples: int, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> list[int]:
    """A device on which a forward pass of more samples finds no memory, whatever was estimated; the sizes asked for."""
    forward, asked = TrainingModel.forward, list[int]()

    def limited(self: TrainingModel, position: object, *arguments: object, **named: object) -> torch.Tensor:
        asked.append(len(position))
        if len(position) > samples:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return forward(self, position, *arguments, **named)

    monkeypatch.setattr(TrainingModel, "forward", limited)
    return asked


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_step_without_memory_is_repeated_in_parts(error: type[Exception], tmp_path: Path, monkeypatch) -> None:
    config = small("dit-nano", 3, checkpoint_every=2)
    train(config, tmp_path / "large")
    asked = holds_at_most(3, monkeypatch, error)
    train(config, tmp_path / "small")
    assert asked == [8, 4, *[2] * 12]
    close(final(tmp_path / "large"), final(tmp_path / "small"))
    log = (tmp_path / "small" / "log.txt").read_text()
    assert "no memory for a micro-batch at step 1" in log and "accumulate=4; the batch stays 8" in log
    assert TrainConfig.read(tmp_path / "small").accumulate == 4


def test_a_given_cut_is_kept_and_the_error_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    asked = holds_at_most(3, monkeypatch, torch.OutOfMemoryError)
    with pytest.raises(GftzooError, match=r"micro-batch of 4 samples found no memory .* -o accumulate=N"):
        train(small("dit-nano", 2, accumulate=2), tmp_path / "run")
    assert asked == [4]


def test_a_single_sample_that_does_not_fit_is_a_sentence(tmp_path: Path, monkeypatch) -> None:
    holds_at_most(0, monkeypatch, torch.OutOfMemoryError)
    with pytest.raises(GftzooError, match="micro-batch of 1 samples"):
        train(small("dit-nano", 2), tmp_path / "run")


def test_other_errors_of_a_step_are_not_taken_for_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(TrainingModel, "forward", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("shapes")))
    with pytest.raises(RuntimeError, match="shapes"):
        train(small("dit-nano", 2), tmp_path / "run")
    assert not is_out_of_memory(ValueError("memory")) and is_out_of_memory(MemoryError())


def test_an_optimizer_without_memory_is_not_asked_again(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(GftzooError, match="the optimizer found no memory"):
        train(small("dit-nano", 2), tmp_path / "run")


def test_a_batch_is_cut_in_its_order() -> None:
    batch = {"position": torch.arange(6), "condition": list("abcdef")}
    parts = cut(batch, 3)
    assert [part["position"].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert [part["condition"] for part in parts] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert [finer(12, 1), finer(12, 4), finer(12, 6), finer(12, 12), finer(7, 1)] == [2, 12, 12, None, 7]
