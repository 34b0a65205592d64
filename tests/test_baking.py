"""A temperature in the weights: the plain network draws what the one with a temperature drew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nano import NANO, nano_conditions, nano_latents, nano_model
from safetensors.torch import save_file
from torch import Tensor

import gftzoo
from gftzoo.cli import main
from gftzoo.contract.guidance import Temperature, Unguided
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import LinearTemperatureOptions
from gftzoo.model import Model

BETAS = (1.0, 0.5, 0.33)
KINDS = ("embedding", "affine", "both")
CONVOLUTIONS = ("sd-nano", "adm-nano", "ldm-nano")  # read their slope out by one, which has no rank
PLACES = [(name, kind, {}) for name in NANO for kind in KINDS]
PLACES += [("dit-nano", "embedding", {"beta_embedding": where}) for where in ("linear", "3-layer")]
PLACES += [("dit-nano", "both", {"learn_sigma": True})]
PLACES += [("mar-nano", "both", options) for options in ({"beta_input": "both"}, {"gft_variance": "learned"})]
PLACES += [(name, "affine", {"temperature_rank": 3}) for name in NANO if name not in CONVOLUTIONS]


def made(name: str, kind: str, **network: Any) -> Model:
    return nano_model(name, temperature=True, temperature_input=kind, **network)


def draw(model: Model, guidance: Temperature | Unguided, **settings: Any) -> Tensor:
    few = {"steps": 3} if "steps" in model.family.options().sampler.model_fields else {}
    return model.sample_latents(nano_conditions(model, 2), guidance, [1, 2], **few, **settings)


def same(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    if not a.is_floating_point():
        return torch.equal(a, b)
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())


@torch.no_grad()
def logits(model: Model, beta: float | None) -> Tensor:
    """Of a family over codes: draws hide small differences, logits do not."""
    generator = SampleGenerator.for_samples("test", 0, range(2))
    problem = model.family.draw_problem(model, nano_latents(model, 2), generator)
    condition = model.encode_condition(nano_conditions(model, 2))
    model.network.eval()
    return model.family.predict(model, problem, condition, None if beta is None else torch.full((2,), beta))


@pytest.mark.parametrize(("name", "kind", "network"), PLACES)
def test_the_baked_model_draws_the_same(name: str, kind: str, network: dict[str, Any]) -> None:
    model = made(name, kind, **network)
    codes = model.family.offers("log_likelihood")
    warm = logits(model, 1.0) if codes else draw(model, Temperature(1.0))
    for beta in BETAS:
        baked = model.bake(beta, schedule="constant")
        drawn = draw(baked, Unguided())
        assert not baked.card.temperature
        assert same(drawn, draw(model, Temperature(beta)))
        if codes:
            drawn = logits(baked, None)
            assert same(drawn, logits(model, beta))
    assert not same(drawn, warm, 3e-5)


@pytest.mark.parametrize("variance", ["auto", "fixed-small"])
def test_a_sampler_that_believes_in_the_variance_draws_the_same(variance: str) -> None:
    model = made("dit-nano", "both", learn_sigma=True)
    model.card = model.card.change(sampler={"sampler": "ddpm", "variance": variance})
    baked = model.bake(0.5)
    assert same(draw(baked, Unguided(), variance="learned"), draw(model, Temperature(0.5)))


def test_a_baked_model_has_the_keys_of_the_plain_one(nano_name: str) -> None:
    baked = made(nano_name, "both").bake(0.5, schedule="constant").network.state_dict()
    plain = nano_model(nano_name, temperature=False).network.state_dict()
    assert {key: value.shape for key, value in baked.items()} == {key: value.shape for key, value in plain.items()}


def test_what_cannot_be_folded_is_refused(nano_name: str) -> None:
    blocks = made(nano_name, "affine", temperature_blocks=1)
    with pytest.raises(UsageError, match=r"1 block\(s\) of its own.*network.temperature_blocks=0"):
        blocks.bake(0.5, schedule="constant")
    assert same(draw(blocks.bake(1.0, schedule="constant"), Unguided()), draw(blocks, Temperature(1.0)))
    with pytest.raises(UsageError, match=r"ramps its temperature.*--schedule constant"):
        blocks.bake(0.5, schedule="linear")
    with pytest.raises(UsageError, match=r"beta must lie in \(0, 1\]"):
        blocks.bake(0.0)


def test_a_caption_has_no_place_for_an_embedded_temperature() -> None:
    model = nano_model("llamagen-nano", temperature=True)
    card = model.card.change(condition="text", classes=0, network={**model.card.network, "caption_features": 8})
    with pytest.raises(UsageError, match="temperature_input=affine"):
        Model.fresh(card).bake(0.5)
    affine = card.change(network={**card.network, "temperature_input": "affine"})
    assert not Model.fresh(affine).bake(0.5).card.temperature


def test_official_weights_of_a_folded_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out, picture = tmp_path / "run", tmp_path / "out", tmp_path / "picture.png"
    model = made("dit-nano", "both")
    model.save(run)

    def call(*words: object) -> int:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return int(stop.value.code or 0)

    assert call("export", run, tmp_path / "none", "--to", "official") == 2
    assert "fold one value into the weights with --beta 0.66" in capsys.readouterr().err
    assert call("export", run, out, "--to", "official", "--beta", 0.5) == 0
    assert "beta 0.5 folded in" in capsys.readouterr().err
    loaded = gftzoo.load(out)
    assert same(draw(loaded, Unguided()), draw(model, Temperature(0.5)))
    baked = loaded.provenance["baked"]
    assert (baked["model"], baked["beta"]) == ("dit-nano", 0.5) and len(baked["sha256"]) == 64
    assert call("sample", out, "-n", 2, "--out", picture) == 0
    assert "beta 0.5 folded in" in capsys.readouterr().err
    assert call("sample", out, "--cfg", 2, "-n", 2, "--out", picture) == 0
    assert "guidance on top of" in capsys.readouterr().err
    assert call("sample", out, "--beta", 0.5, "-n", 2, "--out", picture) == 2
    assert "has beta 0.5 folded into its weights" in capsys.readouterr().err
    assert call("export", out, tmp_path / "again", "--to", "official", "--beta", 0.3) == 2
    assert "has beta 0.5 in its weights already; leave --beta out" in capsys.readouterr().err


def test_weights_named_by_their_path_are_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "released.safetensors", tmp_path / "out"
    model = nano_model("dit-nano", temperature=True)
    save_file(model.network.state_dict(), file)
    for words in (
        ["export", "dit-nano", out, "--weights", file, "--to", "official", "--beta", 0.66],
        ["sample", "dit-nano", "--weights", out, "-n", 2, "--out", tmp_path / "a.png"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        assert not stop.value.code and "beta 0.66 folded in" in capsys.readouterr().err
    assert gftzoo.load(out).provenance["baked"]["weights"] == "released.safetensors"


def test_official_weights_need_no_tokenizer(tmp_path: Path) -> None:
    model = made("dit-nano", "affine")
    spec = model.card.tokenizer.model_copy(update={"kind": "autoencoder-kl", "id": "elsewhere"})
    model.card = model.card.change(tokenizer=spec)
    model.save(tmp_path / "run")
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--to", "official", "--beta", "0.5"])
    assert not stop.value.code and (tmp_path / "out" / "raw.safetensors").is_file()


def test_every_family_with_a_linear_slope_says_so(nano_name: str) -> None:
    schema = nano_model(nano_name, temperature=False).family.options().network
    assert issubclass(schema, LinearTemperatureOptions) == (nano_name != "sd-nano")
