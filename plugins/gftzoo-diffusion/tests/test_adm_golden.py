"""ADM computes what openai/guided-diffusion @22e0df8 does: networks, loss with gradients, samplers, classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dit_golden import Recorded, feed_step_noise, problem_of, read_golden, recorded_norms, terms_of
from gftzoo_diffusion.networks.adm import ADMKind, ADMNetwork
from gftzoo_diffusion.networks.upsampling import enlarged
from gftzoo_diffusion.processes.discrete import spaced_timesteps
from gftzoo_diffusion.samplers import DiffusionSampler, sample
from golden import Golden, near

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import Unguided
from gftzoo.errors import UsageError
from gftzoo.exporting import export
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model
from gftzoo.model import Model
from gftzoo.tokenizers import Pixels


def adm_card(arch: dict[str, Any], **changes: Any) -> ModelCard:
    levels = [2**level for level in range(len(arch["channel_mult"]))]
    network = {
        "kind": "adm",
        "width": arch["model_channels"],
        "multipliers": arch["channel_mult"],
        "attention": [stride in arch["attention_resolutions"] for stride in levels],
        "layers": arch["num_res_blocks"],
        "head_width": arch["num_head_channels"],
        "scale_shift": arch["use_scale_shift_norm"],
        "resample": "residual" if arch["resblock_updown"] else "conv",
        "attention_order": "parts" if arch.get("use_new_attention_order") else "heads",
        "learn_sigma": arch["out_channels"] == 6,
    }
    card = ModelCard(
        name="tiny",
        family="diffusion",
        parameters=1,
        resolution=arch["image_size"],
        tokenizer=TokenizerSpec(id="tiny", kind="pixels", channels=3),
        classes=arch["num_classes"],
        network=network,
        sampler={"sampler": "ddpm"},
    )
    return card.change(**changes)


def adm_model(golden: Golden, folder: Path, **changes: Any) -> Model:
    """From the bare state dict that the authors publish."""
    path = folder / "256x256_diffusion.pt"
    torch.save(golden.weights, path)
    model = import_model(adm_card(golden.config["arch"], **changes), path)
    model.network.eval()
    return model


@pytest.mark.parametrize("name", ["adm-forward", "adm-forward-64"])
def test_forward(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    network = adm_model(golden, tmp_path).network
    x, t, y = (golden.inputs[key] for key in "xty")
    assert near(network.embed(t, y), golden.outputs["emb"])
    assert near(network(x, t, y), golden.outputs["out"])


def upsampler(card: ModelCard) -> ModelCard:
    return card.change(network={**card.network, "low_resolution": 4})


def test_upsampler(tmp_path: Path) -> None:
    golden = read_golden("adm-superres")
    path = tmp_path / "64_256_upsampler.pt"
    torch.save(golden.weights, path)
    network = import_model(upsampler(adm_card(golden.config["arch"])), path).network.eval()
    x = torch.cat([golden.inputs["x"], enlarged(golden.inputs["low_res"], 8)], 1)
    assert near(network(x, golden.inputs["t"], golden.inputs["y"]), golden.outputs["out"])


def test_an_upsampler_learns_and_enlarges_images_of_half_the_side(tmp_path: Path) -> None:
    golden = read_golden("adm-forward")
    card = adm_card(golden.config["arch"])
    big = Model.fresh(upsampler(card), Pixels(card.tokenizer))
    problem = big.family.draw_problem(big, golden.inputs["x"], SampleGenerator([1, 2, 3]))
    small = golden.inputs["x"].unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))
    torch.testing.assert_close(problem.given, enlarged(small, 8))
    assert big.loss(golden.inputs["x"], [0, 1, 2]).requires_grad
    with pytest.raises(UsageError, match="name the model that draws them"):
        big.sample_latents([0], Unguided(), [1], steps=2)
    Model.fresh(card.change(resolution=4), Pixels(card.tokenizer)).save(tmp_path / "base")
    Model.fresh(card, Pixels(card.tokenizer)).save(tmp_path / "large")
    settings = {"steps": 2, "base": str(tmp_path / "base")}
    both = big.sample_latents([0, 1], big.guidance(), [1, 2], **settings)
    assert torch.equal(both[1:], big.sample_latents([1], big.guidance(), [2], **settings))
    with pytest.raises(UsageError, match="needs 4 pixels"):
        big.sample_latents([0], big.guidance(), [1], steps=2, base=str(tmp_path / "large"))
    with pytest.raises(UsageError, match="enlarges no images"):
        Model.fresh(card).sample_latents([0], Unguided(), [1], **settings)


def test_official_names_are_not_written(tmp_path: Path) -> None:
    model = Model.fresh(adm_card(read_golden("adm-forward").config["arch"]))
    with pytest.raises(UsageError, match="no way back to the official ones"):
        export(model, "official", tmp_path)


def test_the_null_condition_is_the_mean_of_the_classes(tmp_path: Path) -> None:
    golden = read_golden("adm-forward")
    table = adm_model(golden, tmp_path).network.class_embedding.weight
    assert torch.equal(table[:-1], golden.weights["label_emb.weight"])
    torch.testing.assert_close(table[-1], golden.weights["label_emb.weight"].mean(0))
    other = adm_model(golden, tmp_path, classes=3).network.class_embedding.weight
    torch.testing.assert_close(other, table[-1:].expand(4, -1))


def test_loss(tmp_path: Path) -> None:
    golden = read_golden("adm-loss")
    model, inputs = adm_model(golden, tmp_path), golden.inputs
    problem = problem_of(inputs["x_start"], inputs["t"], inputs["noise"])
    output = model.family.predict(model, problem, inputs["y"], None)
    loss = model.family.loss_term(model, output, problem)
    assert near(loss, golden.outputs["loss"])
    for part, name in zip(terms_of(model, output, problem), ("mse", "vb"), strict=True):
        assert near(part, golden.outputs[name])
    loss.mean().backward()
    # The norm of a joint layer of queries, keys and values is that of its parts; the null row has no gradient.
    found = {name: float(p.grad.square().sum()) for name, p in model.network.named_parameters()}
    expected = recorded_norms(golden)
    options = model.card.network_options(ADMNetwork)
    for key, norm in expected.items():
        own = ADMKind().from_official(options, {key: golden.weights[key]})
        assert abs(sum(found.pop(name) for name in own) ** 0.5 - float(norm)) <= 1e-4 * max(1.0, float(norm)), key
    assert not found


SAMPLES = {
    "sections/ddpm": ({"sampler": "ddpm", "spacing": "5,2,1"}, 1e-4),
    "sections/ddim": ({"sampler": "ddim", "spacing": "5,2,1"}, 1e-4),
    "ddpm/samples": ({"sampler": "ddpm", "spacing": "8"}, 1e-5),
    "ddpm/samples_clip": ({"sampler": "ddpm", "spacing": "8", "clip": True}, 1e-4),
    "ddim/samples_clip": ({"sampler": "ddim", "spacing": "ddim8", "clip": True}, 1e-3),
}
MAPS = {"5,2,1": "sections/timestep_map", "8": "timestep_map", "ddim8": "ddim/timestep_map"}


@pytest.mark.parametrize("case", SAMPLES)
def test_samples(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden, (settings, tolerance) = read_golden("adm-sample"), SAMPLES[case]
    model = adm_model(golden, tmp_path)
    name = MAPS[settings["spacing"]]
    assert spaced_timesteps(settings["spacing"]) == golden.outputs[name].tolist()
    feed_step_noise(monkeypatch, golden.inputs["step_noise"])
    generator = Recorded(golden.inputs["noise"])
    with torch.no_grad():
        found = sample(model, golden.inputs["y"], Unguided(), DiffusionSampler(**settings), generator)
    assert near(found, golden.outputs[case], tolerance)
