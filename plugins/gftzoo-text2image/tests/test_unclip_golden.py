"""unCLIP against kakaobrain/karlo: prior, decoder and super-resolution, from files as it publishes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_text2image.glide.sampling import process
from gftzoo_text2image.unclip import conditions as unclip
from gftzoo_text2image.unclip.conditions import parts_of
from gftzoo_text2image.unclip.enlarger import load_enlarger
from gftzoo_text2image.unclip.family import DecoderProblem
from gftzoo_text2image.unclip.options import DecoderSampler, EnlargerOptions
from gftzoo_text2image.unclip.sampling import draw_embeddings, draw_pictures
from gftzoo_text2image.unclip.tokenizers import read_statistics
from golden import Golden, near, open_golden
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ClassifierFree
from gftzoo.contract.pieces import NoisedProblem, Steered
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model
from gftzoo.model import Model
from gftzoo.objectives.conditional import Conditional
from gftzoo.zoo import get_card

GOLDENS = Path(__file__).parent / "goldens"


def imported(golden: Golden, name: str, file: Path, **network: Any) -> Model:
    """The model of an official file, written as Karlo's are."""
    hparams, card = golden.config["hparams"], get_card(name)
    width, tokens = hparams["clip_dim"], hparams["text_ctx"]
    channels = width if name == "karlo-prior" else 4
    tokenizer = {**card.tokenizer.model_dump(), "channels": channels, "options": {"clip_width": width}}
    tiny: ModelCard = card.change(
        parameters=0, resolution=4 * hparams.get("image_size", 64), tokenizer=tokenizer, text_encoder=None,
        network={"clip_width": width, "tokens": tokens, **network},
    )  # fmt: skip
    torch.save({"state_dict": golden.weights, "hyper_parameters": hparams}, file)
    model = import_model(tiny, file)
    return Model(tiny, model.network.eval(), model.family.build_tokenizer(tiny.tokenizer), model.family)


def conditions(golden: Golden, rows: int, dropped: bool = False) -> Tensor:
    """The conditions of the rows of a golden file: half of it the prompts, half of it the empty one."""
    given = golden.inputs
    text, states, mask = given["txt_feat"], given["txt_feat_seq"].flatten(1), given["mask"].float()
    at = slice(rows, None) if dropped else slice(rows)
    return torch.cat([text[at], states[at], mask[at], torch.full((rows, 1), float(dropped))], 1)


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Golden], None]:
    """The null condition of a golden file in the place of a text encoder's."""

    def replace(golden: Golden) -> None:
        rows = len(golden.inputs["mask"]) // 2
        monkeypatch.setattr(unclip, "encode", lambda *_: conditions(golden, rows, dropped=True)[:1])

    return replace


class Drawn:
    """A generator that gives what the official code drew; the second half of its doubled batch is never read."""

    def __init__(self, golden: Golden, rows: int) -> None:
        self.draws = [golden.inputs["init"][:rows], *golden.inputs["step_noise"][:, :rows]]

    def normal(self, *shape: int) -> Tensor:
        return self.draws.pop(0).view(-1, *shape)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> tuple[Golden, Model]:
    golden = open_golden(GOLDENS / "unclip-prior.safetensors")
    hparams = golden.config["hparams"]
    sizes = {"layers": hparams["xf_layers"], "heads": hparams["xf_heads"]}
    width = hparams["xf_width"] // hparams["xf_heads"]
    file = tmp_path_factory.mktemp("prior") / "prior.ckpt"
    return golden, imported(golden, "karlo-prior", file, head_width=width, **sizes)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Golden, Model]:
    golden = open_golden(GOLDENS / "unclip-decoder.safetensors")
    arch = golden.config["hparams"]
    file = tmp_path_factory.mktemp("decoder") / "decoder.ckpt"
    return golden, imported(
        golden, "karlo-decoder", file, width=arch["num_channels"], multipliers=[1, 1], attention=[False, True],
        layers=arch["num_res_blocks"], head_width=arch["num_head_channels"], text_width=arch["xf_width"],
        clip_tokens=arch["clip_emb_mult"],
    )  # fmt: skip


def test_the_prior_and_its_loss(prior: tuple[Golden, Model], no_encoder: Callable[[Golden], None]) -> None:
    golden, model = prior
    no_encoder(golden)
    given, wanted = golden.inputs, golden.outputs
    condition = torch.cat([conditions(golden, 2), conditions(golden, 2, dropped=True)])
    text = parts_of(model, condition)
    with torch.no_grad():
        out = model.network(given["x"], given["t"], text["text"], text["states"], text["mask"])
    assert near(out, wanted["out"])
    latents = given["x_start"][..., None, None]

    class Generator(SampleGenerator):
        def integers(self, high: int, *shape: int) -> Tensor:
            return given["t"]

        def normal(self, *shape: int) -> Tensor:
            return given["noise"][..., None, None]

    problem = model.family.draw_problem(model, latents, Generator([0] * 4))
    assert isinstance(problem, NoisedProblem)
    loss = Conditional().loss(model, problem, condition, SampleGenerator([0] * 4))
    assert near(loss, wanted["loss"])
    loss.mean().backward()
    inner = model.network.prior
    for parameter, official in (
        (inner.prd_embedding, "prd_emb"), (inner.time_embedding.linear_1.weight, "time_embed.0.weight"),
        (inner.transformer_blocks[1].ff.net[2].weight, "transformer.resblocks.1.mlp.c_proj.weight"),
    ):  # fmt: skip
        assert near(parameter.grad.norm(), wanted[f"gradnorm/model.{official}"])
    model.network.zero_grad()


def test_the_priors_sampler(prior: tuple[Golden, Model], tmp_path: Path, no_encoder: Callable[[Golden], None]) -> None:
    golden, model = prior
    no_encoder(golden)
    config, wanted = golden.config, golden.outputs
    steered = Steered(model, conditions(golden, 2), ClassifierFree(config["scale"]))
    with torch.no_grad():
        latents = draw_embeddings(model, steered, config["n_steps"], Drawn(golden, 2))  # type: ignore[arg-type]
    torch.save((wanted["clip_mean"][0], wanted["clip_std"][0]), tmp_path / "stats.th")
    mean, deviation = read_statistics(tmp_path / "stats.th")
    assert near(latents.flatten(1) * deviation + mean, wanted["sample5/image_embedding"])


def test_the_decoder_and_its_loss(decoder: tuple[Golden, Model], no_encoder: Callable[[Golden], None]) -> None:
    golden, model = decoder
    no_encoder(golden)
    given, wanted = golden.inputs, golden.outputs
    condition = torch.cat([conditions(golden, 1), conditions(golden, 1, dropped=True)])
    image = given["img_feat"].expand(2, -1)
    with torch.no_grad():
        assert near(model.network(given["x"], given["t"], image, parts_of(model, condition)), wanted["out"])
    x_t = process("cosine").noised(given["x_start"], given["t"], given["noise"])
    problem = DecoderProblem(x_t, given["t"], given["noise"], given["x_start"], image=image)
    loss = Conditional().loss(model, problem, condition, SampleGenerator([0, 1]))
    assert near(loss, wanted["loss"])
    loss.mean().backward()
    projections = model.network.text_proj
    for parameter, official in (
        (projections.learned_classifier_free_guidance_embeddings, "cf_param"),
        (projections.clip_extra_context_tokens_proj.weight, "clip_tok_proj.weight"),
        (model.network.unet.conv_in.weight, "input_blocks.0.0.weight"),
    ):
        assert near(parameter.grad.norm(), wanted[f"gradnorm/model.{official}"])
    model.network.zero_grad()


@pytest.mark.parametrize("spacing", ["5", "3,1,1"])
def test_the_decoders_sampler(
    spacing: str, decoder: tuple[Golden, Model], no_encoder: Callable[[Golden], None]
) -> None:
    golden, model = decoder
    no_encoder(golden)
    settings = DecoderSampler(spacing=spacing)
    with torch.no_grad():
        found = draw_pictures(
            model, conditions(golden, 1), golden.inputs["img_feat"], ClassifierFree(golden.config["scale"]), settings,
            Drawn(golden, 1),  # type: ignore[arg-type]
        )  # fmt: skip
    assert near(found[:, :3], golden.outputs[f"sample{spacing}/image"], 1e-3 if spacing == "5" else 1e-4)


def test_the_super_resolution(tmp_path: Path) -> None:
    golden = open_golden(GOLDENS / "unclip-sr.safetensors")
    hparams, given = golden.config["hparams"], golden.inputs
    options = EnlargerOptions(
        width=hparams["channels"], multipliers=hparams["channels_multiple"], layers=hparams["depth"]
    )
    weights = {key: value.float() for key, value in golden.weights.items()}
    torch.save({"state_dict": weights}, tmp_path / "improved-sr.ckpt")
    enlarger = load_enlarger(str(tmp_path / "improved-sr.ckpt"), options, "")
    with torch.no_grad():
        out = enlarger.first(torch.cat([given["x"], given["low_res"]], 1), given["t"], return_dict=False)[0]
    assert near(out, golden.outputs["out"])
    steps = enlarger(given["low_res"], Drawn(golden, 1))  # type: ignore[arg-type]
    assert near(torch.stack(steps), golden.outputs["steps"])
