"""Latent diffusion's text-to-image model against CompVis/latent-diffusion, through the import path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_text2image import text
from gftzoo_text2image.bert import build_bert
from gftzoo_text2image.options import PipelineSampler
from gftzoo_text2image.process import WeightedProblem, noising
from gftzoo_text2image.sampler import sample
from golden import Golden, near, open_golden

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import ClassifierFree, Guidance, Unguided
from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.weights import load_weights

SCHEDULER = {
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip


def read_golden(name: str) -> Golden:
    golden = open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")
    golden.weights.update({key: value.float() for key, value in golden.weights.items()})
    return golden


def imported(golden: Golden) -> Model:
    unet = golden.config["latent_diffusion"]["unet_config"]["params"]
    attends = [2**level in unet["attention_resolutions"] for level in range(len(unet["channel_mult"]))]
    config: dict[str, Any] = {
        "sample_size": unet["image_size"], "in_channels": 4, "out_channels": 4,
        "layers_per_block": unet["num_res_blocks"], "cross_attention_dim": unet["context_dim"],
        "block_out_channels": [unet["model_channels"] * m for m in unet["channel_mult"]],
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "attention_head_dim": unet["num_heads"],
    }  # fmt: skip
    tokens = golden.inputs["tokens"].shape[1]
    card = ModelCard(
        name="ldm-tiny", family="text2image", parameters=0, resolution=8, condition="text", classes=0,
        tokenizer=TokenizerSpec(id="pixels", kind="pixels", channels=4),
        network={
            "pipeline": "LDMTextToImagePipeline", "config": config, "scheduler": SCHEDULER, "tokens": tokens
        },
    )  # fmt: skip
    family = load_family("text2image")
    network = family.build_network(card)
    load_weights(network, family.import_weights(card, golden.weights), "the golden file")
    return Model(card, network.eval(), family.build_tokenizer(card.tokenizer), family)


def test_the_text_encoder() -> None:
    golden = read_golden("ldm-bert")
    bert = build_bert(golden.weights)
    with torch.no_grad():
        for kind in ("", "_short"):
            assert near(bert(golden.inputs[f"tokens{kind}"])[0], golden.outputs[f"embedding{kind}"])


def test_the_network_and_its_loss() -> None:
    golden = read_golden("ldm-text")
    model, bert, given = imported(golden), build_bert(golden.weights), golden.inputs
    process = noising(json.dumps(SCHEDULER, sort_keys=True), torch.device("cpu"))
    with torch.no_grad():
        context = bert(given["tokens"])[0]
        assert near(context, golden.outputs["context"])
        x_t = process.add_noise(given["z"], given["noise"], given["t"])
        assert near(x_t, golden.outputs["x_noisy"])
        problem = WeightedProblem(x_t, given["t"], given["noise"], torch.ones(len(x_t)))
        eps = model.family.predict(model, problem, context.flatten(1), None)
        null = model.family.predict(model, problem, bert(given["tokens_null"])[0].flatten(1), None)
        loss = model.family.loss_term(model, eps, problem)
    assert near(eps, golden.outputs["eps"]) and near(null, golden.outputs["eps_null"])
    assert near(loss.mean(), golden.outputs["loss"])


class Drawn:
    """A generator that gives the noise that the official code drew."""

    def __init__(self, noise: torch.Tensor) -> None:
        self.noise = noise

    def normal(self, *shape: int) -> torch.Tensor:
        return self.noise


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_sampler(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = read_golden("ldm-text-sample")
    model, bert = imported(golden), build_bert(golden.weights)
    with torch.no_grad():
        context, null = (bert(golden.inputs[name])[0].flatten(1) for name in ("tokens", "tokens_null"))
        monkeypatch.setattr(text, "null_features", lambda model, like: null[:1])
        guidance: Guidance = Unguided() if scale == 1 else ClassifierFree(scale)
        settings = PipelineSampler(steps=golden.config["steps"])
        found = sample(model, context, guidance, settings, Drawn(golden.inputs["noise"]))  # type: ignore[arg-type]
    assert near(found, golden.outputs[f"ddim/eta0.0_scale{scale}"])
