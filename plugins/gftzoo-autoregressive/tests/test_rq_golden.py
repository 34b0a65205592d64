"""RQ-Transformer's logits, losses, gradients and codes equal the official code's, through official files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gftzoo_autoregressive.residuals import RQVAE
from golden import Golden, near
from official import assert_gradients, drawn, official_model, read_golden, tiny_card

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.guidance import Unguided
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model

RELEASED, TABLE = "rqtransformer", ("rqtransformer-tokemb", "rqtransformer-tokemb-small")


def tokenizer_of(golden: Golden, weights: dict[str, torch.Tensor], folder: Path, **changed: float) -> RQVAE:
    ddconfig, hparams = golden.config["ddconfig"], golden.config["hparams"]
    options = {
        "width": ddconfig["ch"],
        "multipliers": ddconfig["ch_mult"],
        "blocks": ddconfig["num_res_blocks"],
        "z_channels": ddconfig["z_channels"],
        "attends": bool(ddconfig["attn_resolutions"]),
        **changed,
    }
    spec = TokenizerSpec(
        id="tiny",
        kind="rq-vae",
        channels=hparams["embed_dim"],
        codebook=hparams["n_embed"],
        downsample=2,
        parts=hparams["code_shape"][-1],
        options=options,
    )
    path = folder / "model.pt"
    torch.save({"state_dict": weights}, path)
    return RQVAE.load(spec, str(path))


def model_of(name: str, folder: Path) -> tuple[Golden, Model]:
    golden = read_golden(name)
    arch = golden.config["arch"]
    network = {
        "depth": arch["body"]["n_layer"],
        "part_depth": arch["head"]["n_layer"],
        "width": arch["embed_dim"],
        "heads": arch["body"]["block"]["n_head"],
        "dropout": 0.0,
        "codes_from": "tokenizer" if arch["input_emb_vqvae"] else "table",
        "readout": "shared" if arch["shared_cls_emb"] else "each",
    }
    height, width, _ = arch["block_size"]
    card = tiny_card("rq", arch["vocab_size"], max(height, width) ** 2, arch["vocab_size_cond"], network)
    card = card.change(tokenizer=card.tokenizer.model_copy(update={"parts": arch["block_size"][-1]}))
    released = dict(golden.part("rqtransformer"))
    missing = max(height, width) ** 2 - height * width  # their positions are no square map
    if missing:
        pos = released["pos_emb_hw"]
        released["pos_emb_hw"] = torch.cat([pos, pos.new_zeros(1, missing, pos.shape[2])], 1)
    tokenizer = None
    if golden.part("rqvae"):
        tokenizer = tokenizer_of(golden, golden.part("rqvae"), folder)
        card = card.change(tokenizer=tokenizer.spec, resolution=2 * height)
    model = official_model(Golden(golden.config, released, {}, {}), card, folder)
    model.tokenizer = tokenizer
    return golden, model


@pytest.mark.parametrize("name", [RELEASED, *TABLE])
def test_logits_losses_and_gradients(name: str, tmp_path) -> None:
    golden, model = model_of(name, tmp_path)
    model.network.positions = golden.inputs["codes"][0, ..., 0].numel()
    model.network.pos_emb_hw = torch.nn.Parameter(model.network.pos_emb_hw[:, : model.network.positions].detach())
    family, codes, classes = model.family, golden.inputs["codes"].flatten(1), golden.inputs["cls"]
    problem = family.draw_problem(model, codes, SampleGenerator(range(len(codes))))
    found = family.predict(model, problem, classes, None)
    assert near(found, golden.outputs["logits"].flatten(1, 3))
    with torch.no_grad():
        first = family.predict(model, problem, torch.zeros_like(classes), None)
    assert near(first, golden.outputs["logits_cond_none"].flatten(1, 3))
    loss = family.loss_term(model, found, problem).mean()
    loss.backward()
    assert near(loss, golden.outputs["loss_hard/loss"])
    assert_gradients(model, golden, prefix="loss_hard/")
    greedy = drawn(model, classes, Unguided(), top_k=1)
    assert torch.equal(greedy, golden.outputs["greedy/codes"].flatten(1))
    if model.tokenizer is not None:
        assert near(model.tokenizer.decode(greedy), golden.outputs["greedy/image"])


@pytest.mark.parametrize(
    ("name", "run"), [(RELEASED, "t1_k24_p0.92"), (RELEASED, "t0.9_klist"), (TABLE[0], "t1.1_k10_p0.9")]
)
def test_drawn_codes(name: str, run: str, tmp_path) -> None:
    golden, model = model_of(name, tmp_path)
    model.network.positions = golden.inputs["codes"][0, ..., 0].numel()
    temperature, top_k, top_p = golden.config["runs"][run]
    filters = {"top_k": top_k, "top_p": top_p}
    if isinstance(top_k, list):
        filters = {"part_top_k": top_k, "part_top_p": top_p}
    found = drawn(
        model, golden.inputs["cls"], Unguided(), golden.inputs[f"{run}/exponential"], temperature=temperature, **filters
    )
    assert torch.equal(found, golden.outputs[f"{run}/codes"].flatten(1))


def test_the_loss_of_soft_targets_and_its_gradients(tmp_path) -> None:
    golden, model = model_of(RELEASED, tmp_path)
    problem = model.family.draw_problem(model, golden.inputs["codes"].flatten(1), SampleGenerator(range(2)))
    problem = replace(problem, soft=golden.inputs["soft_targets"].flatten(1, 3))
    loss = model.family.loss_term(model, model.family.predict(model, problem, golden.inputs["cls"], None), problem)
    loss.mean().backward()
    assert near(loss.mean(), golden.outputs["loss_soft/loss"])
    assert_gradients(model, golden, prefix="loss_soft/")


@pytest.mark.parametrize("name", ["rqvae", "rqvae-small"])
def test_soft_codes_of_rq_vae(name: str, tmp_path) -> None:
    """Drawn for an image, and the chances they were drawn with; the nearest ones' are those without a draw."""
    golden = read_golden(name)
    tokenizer = tokenizer_of(golden, golden.weights, tmp_path, soft_temperature=golden.config["soft_temp"])
    z_BNE = tokenizer.encode(golden.inputs["image"]).flatten(2).mT
    assert near(z_BNE, golden.outputs["pre_quant"].flatten(1, 2))

    def recorded(part: int, logits_BNV: torch.Tensor) -> torch.Tensor:
        exponential_BNV = golden.inputs["soft_exponential"][part].view_as(logits_BNV)
        return (logits_BNV.softmax(-1) / exponential_BNV).argmax(-1)

    def likeliest(part: int, logits_BNV: torch.Tensor) -> torch.Tensor:
        return logits_BNV.argmax(-1)

    for draw, codes, chances in (
        (recorded, "stochastic/codes", "stochastic/soft_codes"),
        (likeliest, "codes", "soft_codes"),
    ):
        found = tokenizer.codebook.soften(z_BNE, golden.config["soft_temp"], draw)
        assert torch.equal(found[0], golden.outputs[codes].flatten(1)), codes
        assert near(found[1], golden.outputs[chances].flatten(1, 3)), chances


@pytest.mark.parametrize("name", ["rqvae", "rqvae-small"])
def test_codes_and_images_of_rq_vae(name: str, tmp_path) -> None:
    golden = read_golden(name)
    tokenizer = tokenizer_of(golden, golden.weights, tmp_path)
    with torch.no_grad():
        assert near(tokenizer.map_of(golden.inputs["image"]).permute(0, 2, 3, 1), golden.outputs["pre_quant"])
    codes = tokenizer.encode(golden.inputs["image"])
    assert torch.equal(codes, golden.outputs["codes"].flatten(1))
    assert near(tokenizer.codebook.look_up(codes).permute(0, 2, 3, 1), golden.outputs["quant"])
    assert near(tokenizer.decode(codes), golden.outputs["reconstruction"])
    assert near(tokenizer.decode(golden.inputs["codes"].flatten(1)), golden.outputs["decode_code"])
    for first, quantised in enumerate(golden.outputs["partial_quant"], 1):
        assert near(tokenizer.codebook.look_up(codes, first).permute(0, 2, 3, 1), quantised)
        coarse = tokenizer.decode_partly(golden.inputs["codes"].flatten(1), first)
        assert near(coarse, golden.outputs[f"decode_partial_add/{first - 1}"])
    vectors = tokenizer.codebook.vectors[golden.inputs["codes"]]
    assert near(vectors, golden.outputs["code_emb_with_depth"])
