"""GLIDE against openai/glide-text2im: the network, its loss and its samplers, through the import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_text2image.glide.family import GlideProblem
from gftzoo_text2image.glide.options import GlideSampler
from gftzoo_text2image.glide.sampling import process, respaced, sample
from golden import Golden, near, open_golden
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import ClassifierFree
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model
from gftzoo.objectives.conditional import Conditional
from gftzoo.weights import load_weights


def read_golden(name: str) -> Golden:
    return open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")


def tiny_card(golden: Golden, **network: Any) -> ModelCard:
    arch, side = golden.config["arch"], golden.config["size"]
    attends = [2**level in arch["attention_resolutions"] for level in range(len(arch["channel_mult"]))]
    options = {
        "width": arch["model_channels"], "multipliers": arch["channel_mult"], "attention": attends,
        "layers": arch["num_res_blocks"], "head_width": arch["num_head_channels"], "text_layers": arch["xf_layers"],
        "text_width": arch["xf_width"], "text_heads": arch["xf_heads"], "tokens": arch["text_ctx"],
        "vocabulary": arch["n_vocab"],
    }  # fmt: skip
    return ModelCard(
        name="glide-tiny", family="glide", parameters=0, resolution=side, condition="text", classes=0,
        tokenizer=TokenizerSpec(id="pixels", kind="pixels", channels=3), network={**options, **network},
    )  # fmt: skip


def imported(golden: Golden, temperature: bool = False, **network: Any) -> Model:
    card, family = tiny_card(golden, **network).change(temperature=temperature), load_family("glide")
    built = family.build_network(card)
    load_weights(built, family.import_weights(card, golden.weights), "the golden file")
    return Model(card, built.eval(), family.build_tokenizer(card.tokenizer), family)


def condition(tokens: Tensor, mask: Tensor) -> Tensor:
    return torch.stack([mask.long(), tokens // 256, tokens % 256], 1).float()


def test_the_network() -> None:
    golden = read_golden("glide-forward")
    model, given, wanted = imported(golden), golden.inputs, golden.outputs
    with torch.no_grad():
        features, vector = model.network.text(given["tokens"], given["mask"])
        assert near(features.transpose(1, 2), wanted["xf_out"]) and near(vector, wanted["xf_proj"])
        for kind, name in (("", "out"), ("_null", "out_null")):
            out = model.network(given["x"], given["t"], given[f"tokens{kind}"], given[f"mask{kind}"])
            assert near(out, wanted[name])
    null = model.null_condition(condition(given["tokens"], given["mask"]))
    assert torch.equal(null, condition(given["tokens_null"], given["mask_null"]))


def test_an_added_temperature_changes_nothing_and_can_learn() -> None:
    golden = read_golden("glide-forward")
    model, given = imported(golden, temperature=True), golden.inputs
    out = model.network(given["x"], given["t"], given["tokens"], given["mask"], torch.full((len(given["t"]),), 0.3))
    assert near(out, golden.outputs["out"])
    out.square().sum().backward()
    assert model.network.beta_embedder.layers[-1].weight.grad.abs().max() > 0


def test_the_upsampler() -> None:
    golden = read_golden("glide-upsample")
    model, given = imported(golden, enlarges=True, schedule="linear"), golden.inputs
    enlarged = torch.nn.functional.interpolate(given["low_res"], given["x"].shape[-2:], mode="bilinear")
    with torch.no_grad():
        out = model.network(torch.cat([given["x"], enlarged], 1), given["t"], given["tokens"], given["mask"])
    assert near(out, golden.outputs["out"])
    steps = respaced("linear", GlideSampler(spacing="fast27"))
    assert torch.equal(steps.timestep_K, golden.outputs["fast27/timestep_map"])
    assert near(steps.beta_K, golden.outputs["fast27/betas"], 1e-12)


def test_the_loss_and_its_gradients() -> None:
    golden = read_golden("glide-loss")
    model, given = imported(golden), golden.inputs
    x_t = process("cosine").noised(given["x_start"], given["t"], given["noise"])
    problem = GlideProblem(x_t, given["t"], given["noise"], given["x_start"])
    loss = Conditional().loss(model, problem, condition(given["tokens"], given["mask"]), SampleGenerator([0, 1]))
    assert near(loss, golden.outputs["mse"] + vb_share(golden))
    loss.mean().backward()
    norms = {k: p.grad.norm() for k, p in model.network.named_parameters() if p.grad is not None}
    for name in ("token_embedding.weight", "final_ln.weight", "transformer_proj.weight", "padding_embedding"):
        assert near(norms[f"text.{name}"], golden.outputs[f"gradnorm/{name}"])
    assert near(norms["unet.conv_in.weight"], golden.outputs["gradnorm/input_blocks.0.0.weight"])


def vb_share(golden: Golden) -> Tensor:
    return golden.outputs["loss"] - golden.outputs["mse"]


class Drawn:
    """A generator that gives what the official code drew; the second half of its doubled batch is never read."""

    def __init__(self, golden: Golden) -> None:
        self.draws = [golden.inputs["noise"][:1], *golden.inputs["step_noise"][:, :1]]

    def normal(self, *shape: int) -> Tensor:
        return self.draws.pop(0)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("spacing", ["plain_clip", "sections"])
def test_the_samplers(sampler: str, spacing: str) -> None:
    golden = read_golden("glide-sample")
    config = golden.config
    model = imported(golden)
    plain = spacing == "plain_clip"
    settings = GlideSampler(
        sampler=sampler, clip=plain, steps=config["n_steps"], spacing=None if plain else config["sections"]
    )
    given = condition(golden.inputs["tokens"], golden.inputs["mask"])
    with torch.no_grad():
        found = sample(model, given, ClassifierFree(config["guidance_scale"]), settings, Drawn(golden))  # type: ignore[arg-type]
    tolerance = 1e-3 if plain and sampler == "ddim" else 1e-4
    assert near(found, golden.outputs[f"{spacing}/{sampler}"], tolerance, scaled=not plain)
