"""Files in and out: damage, foreign classes and wrong shapes are sentences; nothing in a file is executed."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from nano import nano_conditions, nano_latents, nano_model
from payload import Payload
from safetensors.torch import save_file

import gftzoo
from gftzoo import engine
from gftzoo.catalogue.cards import Checkpoint
from gftzoo.errors import GftzooError, UsageError
from gftzoo.exporting import export
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.loading import files as loading
from gftzoo.loading.files import import_model, load_folder, locate
from gftzoo.weights import read_tensors, save_model
from gftzoo.zoo import catalogue, get_card


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
    monkeypatch.setattr(loading, "fetch", lambda checkpoint: tmp_path / checkpoint.file)
    for card in catalogue().models.values():
        for name, checkpoint in card.checkpoints.items():
            if checkpoint.file is not None:
                fitting = loading.locate(card, name).card
                settings = load_family(card.family).sampler_settings(fitting).model_dump()
                assert settings.items() >= checkpoint.sampler.items()
                assert fitting.temperature == (checkpoint.objective == "gft")
    assert catalogue().models["dit-xl"].checkpoints["gft"].sampler == {"timestep_offset": 1}


def test_released_weights_by_path_bring_their_sampler_settings_too(tmp_path: Path) -> None:
    released = Checkpoint(repo="x", file="x.pt", objective="gft", sampler={"timestep_offset": 1})
    card = get_card("dit-nano").change(checkpoints={"gft": released})
    steered, plain = nano_model("dit-nano", temperature=True), nano_model("dit-nano", temperature=False)
    state = steered.network.state_dict()
    torch.save({"model": {}, "ema": state, "args": argparse.Namespace(lr=1e-4)}, tmp_path / "foreign.pt")
    torch.save(plain.network.state_dict(), tmp_path / "plain.pt")
    steered.save(tmp_path / "own")
    offset = {"timestep_offset": 1}
    for given, settings in (("foreign.pt", offset), ("plain.pt", {}), ("own", {}), ("own/raw.safetensors", {})):
        found = locate(card, tmp_path / given)
        assert found.card.sampler == {**card.sampler, **settings}, given
        assert found.card.temperature == (given != "plain.pt")
    found = locate(card, tmp_path / "foreign.pt")
    imported = import_model(found.card, found.path, located=found)
    assert imported.provenance["objective"] == "gft"
    imported.save(tmp_path / "imported")  # and its folder keeps them, whichever card reads it
    assert locate(get_card("dit-nano"), tmp_path / "imported").card.sampler["timestep_offset"] == 1
    assert gftzoo.load(tmp_path / "imported").card.sampler["timestep_offset"] == 1


def test_a_file_copied_away_from_its_card_keeps_its_settings_and_its_entry(tmp_path: Path) -> None:
    steered = nano_model("dit-nano", temperature=True)
    steered.card = steered.card.change(sampler={**steered.card.sampler, "timestep_offset": 1})
    steered.provenance = {"objective": "gft"}
    save_model(steered, tmp_path / "folder", "ema")
    alone = tmp_path / "downloaded.safetensors"
    alone.write_bytes((tmp_path / "folder" / "ema.safetensors").read_bytes())
    found = locate(get_card("dit-nano"), alone)
    assert found.card.sampler["timestep_offset"] == 1 and found.objective == "gft"
    assert import_model(found.card, alone, located=found).provenance["entry"] == "ema"
    assert import_model(found.card, alone, "ema", located=found).provenance["entry"] == "ema"
    with pytest.raises(UsageError, match="has no raw weights; use --entry ema"):
        import_model(found.card, alone, "raw", located=found)
    save_file(steered.network.state_dict(), alone, {"model": "dit-nano", "family": "diffusion", "sampler": "["})
    with pytest.raises(GftzooError, match="names sampler settings that are none"):
        locate(get_card("dit-nano"), alone)


def test_an_average_stays_one(tmp_path: Path) -> None:
    model = nano_model("dit-nano", temperature=False)
    state = model.network.state_dict()
    torch.save({"model": {k: v + 1 for k, v in state.items()}, "model_ema": state}, tmp_path / "both.pt")
    imported = import_model(model.card, tmp_path / "both.pt")
    assert (imported.provenance["entry"], imported.provenance["container"]) == ("ema", "model_ema")
    imported.save(tmp_path / "saved")
    again = gftzoo.load(tmp_path / "saved")
    export(again, "safetensors", tmp_path / "exported")
    for folder in ("saved", "exported"):
        assert [p.name for p in sorted((tmp_path / folder).iterdir())] == ["card.json", "ema.safetensors"]
        assert gftzoo.load(tmp_path / folder).provenance["entry"] == "ema"
        again = import_model(model.card, locate(model.card, tmp_path / folder).path).provenance
        assert again["entry"] == "ema" and again["imported_from"]["sha256"] == imported.provenance["sha256"]
    with pytest.raises(UsageError, match=r"holds no raw\.safetensors; it has --entry ema"):
        gftzoo.load(tmp_path / "saved", entry="raw")
    with pytest.raises(UsageError, match="holds 'ema' weights already"):
        import_model(model.card, tmp_path / "both.pt", "raw").save(tmp_path / "saved")


def test_weights_trained_further_say_so(tmp_path: Path) -> None:
    model = nano_model("dit-nano", temperature=False)
    torch.save({"model": model.network.state_dict()}, tmp_path / "base.pt")
    small = {"batch_size": 4, "sample_every": 10}
    for name, start in (("first", tmp_path / "base.pt"), ("second", tmp_path / "first")):
        config = engine.resolve("dit-nano", objective="gft", weights=str(start), steps=1, options=small)
        engine.train(config, tmp_path / name)
    found = gftzoo.load(tmp_path / "second").provenance
    assert (found["run"], found["step"], found["objective"], found["entry"]) == ("second", 1, "gft", "ema")
    assert "weights" not in found and "sha256" not in found
    before = found["started_from"]
    assert (before["weights"], before["run"], before["entry"]) == ("ema.safetensors", "first", "ema")
    assert (before["started_from"]["weights"], before["started_from"]["entry"]) == ("base.pt", "raw")


def test_weights_trained_without_the_engine_say_so(tmp_path: Path) -> None:
    model = nano_model("dit-nano", temperature=False)
    torch.save({"ema": model.network.state_dict()}, tmp_path / "base.pt")
    read = import_model(model.card, tmp_path / "base.pt").to("cpu")
    assert not read.changed
    read.loss(nano_latents(model, 2), [0, 1], "conditional").backward()
    torch.optim.AdamW(read.network.parameters(), lr=1e-3).step()
    read.save(tmp_path / "tuned")
    found = gftzoo.load(tmp_path / "tuned").provenance
    assert found["entry"] == "raw" and found["started_from"]["entry"] == "ema" and "sha256" not in found


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: (t * 100).to(torch.int32), "holds integers and the model needs floating-point numbers"),
        (lambda t: t * torch.inf, "holds (NaN|infinite numbers) in tensor"),
        (lambda t: t.to(torch.complex64), "holds complex numbers"),
    ],
)
def test_numbers_of_another_kind_are_refused(tmp_path: Path, change: Any, match: str) -> None:
    model = nano_model("dit-nano", temperature=False)
    state = model.network.state_dict()
    key = "x_embedder.proj.weight"
    torch.save({**state, key: change(torch.ones_like(state[key]))}, tmp_path / "x.pt")
    with pytest.raises(GftzooError, match=match):
        import_model(model.card, tmp_path / "x.pt")


@pytest.mark.parametrize(("key", "value"), [("depth", 10**8), ("width", 96 * 10**5)])
def test_a_card_of_an_absurd_network_takes_neither_time_nor_memory(tmp_path: Path, key: str, value: int) -> None:
    nano_model("dit-nano", temperature=False).save(tmp_path)
    text = json.loads((tmp_path / "card.json").read_text())
    text["card"]["network"][key] = value
    (tmp_path / "card.json").write_text(json.dumps(text))
    with pytest.raises(GftzooError, match=r"more than 5,000 tensors|has shape .* and the model needs"):
        load_folder(tmp_path)


def test_what_is_not_trained_comes_from_beside_an_average(tmp_path: Path) -> None:
    model = nano_model("dit-nano", temperature=False)
    state = model.network.state_dict()
    average = {key: value for key, value in state.items() if key != "pos_embed"}
    torch.save({"model": state, "ema": {"shadow": average}}, tmp_path / "x.pt")
    assert torch.equal(
        import_model(model.card, tmp_path / "x.pt").network.state_dict()["pos_embed"], state["pos_embed"]
    )
    torch.save({"model": state, "ema": {"shadow": dict(list(average.items())[1:])}}, tmp_path / "x.pt")
    with pytest.raises(GftzooError, match="is missing"):
        import_model(model.card, tmp_path / "x.pt")


def test_what_is_not_published_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert "gft-finetune" not in get_card("dit-s").offered and "gft-finetune" in get_card("dit-xl").offered
    with pytest.raises(UsageError, match=r"dit-s has no checkpoint 'base'"):
        engine.resolve("dit-s", weights="base")
    with pytest.raises(UsageError, match=r"starts from 'base', which is not published; name weights"):
        engine.resolve("dit-s", recipe="gft-finetune", data="digits", options={"tokenizer": "pixels-grey"})
    for card in catalogue().models.values():
        assert all(each.init in card.checkpoints for each in card.offered.values() if each.init)


def test_the_raw_file_of_mar_is_told_as_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = get_card("mar-b")
    monkeypatch.setattr(loading, "fetch", lambda checkpoint: tmp_path / checkpoint.file)
    assert locate(card, "base").path.name == "checkpoint-last.pth" and card.checkpoints["base"].revision
    assert locate(card, "base-raw").entry == "raw"
    with pytest.raises(UsageError, match="holds raw weights only"):
        locate(card, "base-raw", "ema")


def test_a_folder_has_its_own_weights(tmp_path: Path) -> None:
    nano_model("dit-nano", temperature=True).save(tmp_path)
    with pytest.raises(UsageError, match=r"has its own weights; leave out --weights 'other\.pt'"):
        gftzoo.load(tmp_path, "other.pt")
