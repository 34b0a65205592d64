"""The exported folder runs in an unmodified DiTPipeline and gives the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DiTPipeline
from diffusers.models.embeddings import Timesteps
from gftzoo_diffusion.timesteps import refit

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.errors import UsageError
from gftzoo.exporting import export
from gftzoo.generator import SampleGenerator
from gftzoo.layers.sinusoid import sinusoid
from gftzoo.model import Model
from gftzoo.sampling import image_seeds
from gftzoo.tokenizers import DiffusersVAE
from gftzoo.zoo import get_card

STEPS = 8
CLASSES = [3, 0, 7]


def tiny_model(temperature: bool, sampler: dict[str, Any] | None = None, **network: Any) -> Model:
    """A tiny DiT in the latents of a tiny VAE, random in every weight."""
    torch.manual_seed(0)
    spec = TokenizerSpec(id="tiny-vae", kind="autoencoder-kl", channels=4, downsample=2, scale=0.5)
    sizes = {"depth": 2, "width": 32, "heads": 2, "patch": 2}
    card = get_card("dit-nano").change(
        resolution=16, tokenizer=spec, temperature=temperature, network=sizes | network,
        sampler={"steps": STEPS, **(sampler or {})},
    )  # fmt: skip
    down, up = ["DownEncoderBlock2D"] * 2, ["UpDecoderBlock2D"] * 2
    autoencoder = AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16
    )
    model = Model.fresh(card, DiffusersVAE(spec, autoencoder))
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def stock_images(folder: Path) -> tuple[torch.Tensor, list[int]]:
    """Images (B, 3, H, W) in [0, 1] of the stock pipeline for the seeds of seed 0; the batches of its passes."""
    pipeline = DiTPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    calls: list[int] = []
    pipeline.transformer.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    streams = SampleGenerator(image_seeds(0, range(len(CLASSES)))).streams
    found = pipeline(
        CLASSES, guidance_scale=1.0, generator=streams, num_inference_steps=STEPS, output_type="pt"
    )  # fmt: skip
    return found.images, calls


@pytest.mark.parametrize("kind", ["embedding", "both"])
@pytest.mark.parametrize("offset", [0, 1])
def test_images_of_a_folded_temperature_are_the_same(kind: str, offset: int, tmp_path: Path) -> None:
    model = tiny_model(True, {"timestep_offset": offset}, temperature_input=kind)
    export(model.bake(0.4), "diffusers", tmp_path)
    images, calls = stock_images(tmp_path)
    assert (images - model.sample(CLASSES, beta=0.4)).abs().max() < 1e-3
    assert calls == [len(CLASSES)] * STEPS and images.std() > 0.01
    assert "temperature 0.4 in its weights" in (tmp_path / "README.md").read_text()


def test_images_of_plain_weights_are_the_same(tmp_path: Path) -> None:
    model = tiny_model(False, learn_sigma=False)
    export(model, "diffusers", tmp_path)
    assert (stock_images(tmp_path)[0] - model.sample(CLASSES)).abs().max() < 1e-3
    pipeline = DiTPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert pipeline.get_label_ids(["3", "0"]) == [3, 0]


def test_timesteps_are_fitted_where_the_scheduler_asks() -> None:
    t = torch.arange(1000)
    torch.testing.assert_close(sinusoid(t.float(), shift=1), Timesteps(256, True, 1)(t))
    weight, bias = 0.02 * torch.randn(64, 256), torch.randn(64)
    asked = list(range(999, 0, -20))
    fitted, shifted = refit(weight, bias, asked, offset=1)
    wanted, found = sinusoid(t.float() + 1) @ weight.T + bias, sinusoid(t.float(), shift=1) @ fitted.T + shifted
    assert (found - wanted)[asked].abs().max() < 1e-4
    copied = sinusoid(t.float(), shift=1) @ weight.T + bias
    assert (found - wanted).square().mean() < 0.5 * (copied - wanted).square().mean()


def test_what_no_pipeline_can_run_is_refused(tmp_path: Path) -> None:
    steered = tiny_model(True)
    with pytest.raises(UsageError, match=r"has a temperature input.*--beta 0.66"):
        export(steered, "diffusers", tmp_path)
    wide = tiny_model(False, mlp_ratio=2.0)
    with pytest.raises(UsageError, match="mlp_ratio 2"):
        export(wide, "diffusers", tmp_path)
    pixels = Model.fresh(get_card("dit-nano"), steered.family.build_tokenizer(get_card("dit-nano").tokenizer))
    with pytest.raises(UsageError, match=r"'pixels-grey'.*tokenizer=sd-vae"):
        export(pixels, "diffusers", tmp_path)
    moved = tiny_model(False)
    with torch.no_grad():
        moved.network.pos_embed.add_(1)
    with pytest.raises(UsageError, match="positions"):
        export(moved, "diffusers", tmp_path)
