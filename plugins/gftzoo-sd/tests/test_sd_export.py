"""The exported folder runs in an unmodified diffusers pipeline and gives the same images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from sd_tiny import PROMPTS, near, tiny_model

from gftzoo.adapters import Adapter, Base, base_hash, freeze
from gftzoo.contract.guidance import Temperature, Unguided
from gftzoo.errors import GftzooError, UsageError
from gftzoo.exporting import export
from gftzoo.foreign_folders import PIPELINES
from gftzoo.generator import SampleGenerator
from gftzoo.layers.lora_options import LoraOptions
from gftzoo.layers.text_encoder import text_encoder
from gftzoo.loading import load
from gftzoo.model import Model
from gftzoo.sampling import image_seeds
from gftzoo.tokenizers import Pixels
from gftzoo.zoo import get_tokenizer_spec

STEPS = 6


def stock_images(folder: Path, scale: float, **arguments: Any) -> tuple[torch.Tensor, list[int]]:
    """Images (B, 3, H, W) in [0, 1] of the stock pipeline for the latents of seed 0; the batches of its UNet calls."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    calls: list[int] = []
    pipeline.unet.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    latents = SampleGenerator(image_seeds(0, range(len(PROMPTS)))).normal(8, 8, 8)
    found = pipeline(
        PROMPTS, latents=latents, guidance_scale=scale, num_inference_steps=STEPS, output_type="pt", **arguments
    )
    return found.images, calls


@pytest.mark.parametrize("beta", [1.0, 0.4, 0.2])
def test_guidance_free_images_are_the_same(beta: float, tmp_path: Path, steered: Model) -> None:
    export(steered, "diffusers", tmp_path)
    images, calls = stock_images(tmp_path, 1 / beta)
    assert (images - steered.sample(PROMPTS, beta=beta, steps=STEPS)).abs().max() < 1e-3
    assert images.std() > 0.01
    assert calls == [len(PROMPTS)] * STEPS


@pytest.mark.parametrize("network", [{}, {"temperature_input": "affine"}, {"temperature_input": "both"}])
def test_images_of_a_folded_temperature_are_the_same(network: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(temperature=True, **network)
    export(model.bake(0.4), "diffusers", tmp_path)
    images, calls = stock_images(tmp_path, 1.0)
    assert (images - model.sample(PROMPTS, beta=0.4, steps=STEPS)).abs().max() < 1e-3
    assert calls == [len(PROMPTS)] * STEPS
    assert StableDiffusionPipeline.load_config(tmp_path)["unet"] == ["diffusers", "UNet2DConditionModel"]


def test_an_affine_temperature_needs_to_be_folded(tmp_path: Path) -> None:
    affine = tiny_model(temperature=True, temperature_input="affine")
    with pytest.raises(UsageError, match=r"slope no pipeline knows.*--beta 0.66"):
        export(affine, "diffusers", tmp_path)


def test_official_weights_have_lora_merged(tmp_path: Path) -> None:
    model = with_factors()
    export(model.bake(0.4), "official", tmp_path)
    plain = tiny_model(temperature=False).network.state_dict()
    assert load_file(tmp_path / "raw.safetensors").keys() == plain.keys()
    drawn = load(tmp_path).sample_latents(PROMPTS, Unguided(), [1, 2, 3], steps=2)
    assert near(drawn, model.sample_latents(PROMPTS, Temperature(0.4), [1, 2, 3], steps=2))


def test_guided_images_are_the_same(tmp_path: Path, plain: Model) -> None:
    export(plain, "diffusers", tmp_path)
    for negative in ("", "tiger face"):
        images, calls = stock_images(tmp_path, 3.0, negative_prompt=[negative] * len(PROMPTS))
        ours = plain.sample(PROMPTS, cfg=3.0, steps=STEPS, negative_prompt=negative)
        assert (images - ours).abs().max() < 1e-3
        assert calls == [2 * len(PROMPTS)] * STEPS


def with_factors() -> Model:
    """A model with LoRA factors that have an effect."""
    model = tiny_model(temperature=True)
    freeze(model, "lora", LoraOptions(rank=4))
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    base = Base(weights="base", sha256=base_hash(model.network))
    model.provenance["adapter"] = Adapter(way="lora", objective="gft", base=base).model_dump()
    return model


def test_lora_is_merged(tmp_path: Path) -> None:
    model = with_factors()
    export(model, "diffusers", tmp_path)
    images, _ = stock_images(tmp_path, 2.0)
    assert (images - model.sample(PROMPTS, beta=0.5, steps=STEPS)).abs().max() < 1e-3
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert not any("lora" in name for name in pipeline.unet.state_dict())


def test_the_exported_folder_loads_again(tmp_path: Path, steered: Model) -> None:
    """It is a diffusers folder like any other: UNet, VAE and text encoder come from it."""
    export(steered, "diffusers", tmp_path)
    path = steered.family.weights_file(steered.card, tmp_path)
    assert path.parent == tmp_path / "unet"
    tokenizer = steered.family.build_tokenizer(steered.card.tokenizer, str(tmp_path))
    elsewhere = Model(steered.card.change(text_encoder="none/such"), steered.network, tokenizer, steered.family)
    first, second = (model.sample(PROMPTS, beta=0.5, steps=3) for model in (steered, elsewhere))
    assert torch.equal(first, second)


def test_what_no_pipeline_can_run_is_refused(tmp_path: Path, steered: Model) -> None:
    pixels = Model(steered.card, steered.network, Pixels(get_tokenizer_spec("pixels")), steered.family)
    with pytest.raises(UsageError, match=r"'pixels'.*needs a VAE"):
        export(pixels, "diffusers", tmp_path)
    with pytest.raises(UsageError, match="160 wide, padded from 96"):
        padded = tiny_model(temperature=True, text_width=160)
        export(padded, "diffusers", tmp_path)
    with pytest.raises(UsageError, match=r"'onnx'.*diffusers"):
        export(steered, "onnx", tmp_path)


def test_an_incomplete_pipeline_is_named(tmp_path: Path, steered: Model) -> None:
    elsewhere = Model(steered.card.change(text_encoder=str(tmp_path)), steered.network, None, steered.family)
    with pytest.raises(GftzooError, match=r"text_encoder of .* could not be loaded .*text_encoder=PATH"):
        elsewhere.encode_condition(PROMPTS)
    shutil.copytree(PIPELINES / "nano" / "text_encoder", tmp_path / "text_encoder")
    text_encoder.cache_clear()
    with pytest.raises(GftzooError, match=r"tokenizer of .* has 2 tokens and its text encoder 2562"):
        elsewhere.encode_condition(PROMPTS)
