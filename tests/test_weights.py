"""Files in and out: damage, foreign classes and wrong shapes are sentences; nothing in a file is executed."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from nano import nano_conditions, nano_latents, nano_model
from safetensors.torch import save_file

import gftzoo
from gftzoo import weights
from gftzoo.errors import GftzooError, UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.plugins import load_family
from gftzoo.weights import import_model, load_folder, read_tensors
from gftzoo.zoo import catalogue


class Payload:
    """Unpickling it would create the file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.target,))  # type: ignore[return-value]


def test_containers_and_entries(tmp_path: Path) -> None:
    raw, ema = {"module.w": torch.ones(2)}, {"_orig_mod.w": torch.zeros(2)}
    args = argparse.Namespace(lr=1e-4)
    torch.save({"model": raw, "ema": ema, "opt": {}, "args": args}, tmp_path / "both.pt")
    torch.save({"model": raw, "steps": 3}, tmp_path / "raw.pt")
    torch.save(raw, tmp_path / "bare.pt", _use_new_zipfile_serialization=False)
    save_file({"w": torch.ones(2)}, tmp_path / "own.safetensors")
    assert read_tensors(tmp_path / "both.pt").entry == "ema"
    assert torch.equal(read_tensors(tmp_path / "both.pt", "raw").tensors["w"], torch.ones(2))
    assert torch.equal(read_tensors(tmp_path / "both.pt", "ema").tensors["w"], torch.zeros(2))
    for file in ("raw.pt", "bare.pt", "own.safetensors"):
        assert torch.equal(read_tensors(tmp_path / file).tensors["w"], torch.ones(2))
    with pytest.raises(UsageError, match="no EMA weights, only 'model'"):
        read_tensors(tmp_path / "raw.pt", "ema")


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "ckpt"])
def test_a_planted_payload_is_refused(tmp_path: Path, suffix: str) -> None:
    target, file = tmp_path / "executed", tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save({"model": {"w": torch.ones(2)}, "args": Payload(target)}, file)
    else:
        file.write_bytes(pickle.dumps({"w": Payload(target)}))
    with pytest.raises(GftzooError):
        read_tensors(file)
    assert not target.exists()


def test_a_planted_payload_in_a_saved_model_is_refused(tmp_path: Path) -> None:
    model = nano_model("dit-nano", temperature=True)
    for file in ("raw.safetensors", "card.json"):
        folder, target = tmp_path / file, tmp_path / "executed"
        model.save(folder)
        (folder / file).write_bytes(pickle.dumps(Payload(target)))
        with pytest.raises((GftzooError, UnicodeDecodeError)):
            load_folder(folder)
        assert not target.exists()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    tensors = {"w": torch.randn(1000)}
    torch.save(tensors, whole) if suffix == "pt" else save_file(tensors, whole)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[:-1500])
    with pytest.raises(GftzooError, match="truncated"):
        read_tensors(cut)


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    model = nano_model("dit-nano", temperature=False)
    state = dict(model.network.state_dict())
    key = next(iter(state))
    torch.save({k: v for k, v in state.items() if k != key}, tmp_path / "short.pt")
    with pytest.raises(GftzooError, match="is missing"):
        import_model(model.card, tmp_path / "short.pt")
    torch.save({**state, "foreign.weight": torch.ones(1)}, tmp_path / "long.pt")
    with pytest.raises(GftzooError, match=r"'foreign.weight' is not part of the model"):
        import_model(model.card, tmp_path / "long.pt")
    torch.save({**state, key: torch.full_like(state[key], torch.nan)}, tmp_path / "broken.pt")
    with pytest.raises(GftzooError, match=f"holds NaN in tensor '{key}'"):
        import_model(model.card, tmp_path / "broken.pt")


def test_save_and_load_round_trip(nano_name: str, tmp_path: Path) -> None:
    model = nano_model(nano_name, temperature=True)
    model.save(tmp_path / "saved")
    again = gftzoo.load(tmp_path / "saved")
    assert again.card == model.card and again.provenance["entry"] == "raw"
    for (name, a), (_, b) in zip(model.network.state_dict().items(), again.network.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    conditions = nano_conditions(model, 2)
    assert torch.equal(model.sample(conditions, beta=0.5), again.sample(conditions, beta=0.5))


def test_base_weights_with_a_temperature_input_are_the_base_model(nano_name: str, tmp_path: Path) -> None:
    base = nano_model(nano_name, temperature=False)
    torch.save(base.network.state_dict(), tmp_path / "base.pt")
    tuned = import_model(base.card.change(temperature=True), tmp_path / "base.pt", tokenizer=base.tokenizer)
    base.network.eval()
    tuned.network.eval()
    generator = SampleGenerator.for_samples("test", 0, range(2))
    problem = base.family.draw_problem(base, nano_latents(base, 2), generator)
    condition = base.encode_condition(nano_conditions(base, 2))
    with torch.no_grad():
        expected = base.family.predict(base, problem, condition, None)
        actual = tuned.family.predict(tuned, problem, condition, torch.tensor([0.2, 0.9]))
    # With a temperature a family may leave out channels that GFT does not train, a learned variance for one.
    kept = expected[tuple(slice(0, size) for size in actual.shape)]
    torch.testing.assert_close(actual, kept, rtol=1e-5, atol=1e-5)


def test_published_weights_bring_their_own_sampler_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "_fetch", lambda repo, file: tmp_path / file)
    for card in catalogue().models.values():
        for name, checkpoint in card.checkpoints.items():
            if checkpoint.file is not None:
                fitting = weights.resolve_weights(card, name)[1]
                settings = load_family(card.family).sampler_settings(fitting).model_dump()
                assert settings.items() >= checkpoint.sampler.items()
                assert fitting.temperature == (checkpoint.objective == "gft")
    assert catalogue().models["dit-xl"].checkpoints["gft"].sampler == {"timestep_offset": 1}


def test_a_folder_has_its_own_weights(tmp_path: Path) -> None:
    nano_model("dit-nano", temperature=True).save(tmp_path)
    with pytest.raises(UsageError, match=r"has its own weights; leave out --weights 'other\.pt'"):
        weights.load(tmp_path, "other.pt")
