"""Codes and images of VQGAN's and ViT-VQGAN's tokenizers equal the official codes', through official files."""

from __future__ import annotations

import pytest
import torch
from gftzoo_autoregressive.tokenizers import VQGAN
from gftzoo_autoregressive.vit_tokenizer import load_vit_vqgan
from golden import near
from official import read_golden

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.errors import UsageError


@pytest.mark.parametrize("name", ["vqgan-tokenizer", "vqgan-tokenizer-small"])
@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_vqgan(name: str, prefix: str, tmp_path) -> None:
    golden = read_golden(name)
    ddconfig, path = golden.config["ddconfig"], tmp_path / "last.ckpt"
    options = {
        "width": ddconfig["ch"],
        "multipliers": ddconfig["ch_mult"],
        "blocks": ddconfig["num_res_blocks"],
        "z_channels": ddconfig["z_channels"],
    }
    spec = TokenizerSpec(
        id="tiny",
        kind="vqgan",
        channels=golden.config["embed_dim"],
        codebook=golden.config["n_embed"],
        downsample=2,
        options=options,
    )
    others = {"loss.logvar": torch.zeros(1)} if not prefix else {"transformer.pos_emb": torch.zeros(1)}
    torch.save({"state_dict": {**{prefix + k: v for k, v in golden.weights.items()}, **others}}, path)
    tokenizer, image = VQGAN.load(spec, str(path)), golden.inputs["image"]
    assert near(tokenizer.map_of(image), golden.outputs["pre_quant"])
    codes = tokenizer.encode(image)
    assert torch.equal(codes.flatten(), golden.outputs["indices"])
    assert near(tokenizer.decode(codes), golden.outputs["reconstruction"])
    assert near(tokenizer.decode(golden.inputs["codes"].flatten(1)), golden.outputs["decode_codes"])


@pytest.mark.parametrize("name", ["vitvqgan-tokenizer", "vitvqgan-tokenizer-small"])
def test_vit_vqgan(name: str, tmp_path) -> None:
    golden = read_golden(name)
    config, path = golden.config["vq"], tmp_path / "imagenet.ckpt"
    names = {"width": "dim", "depth": "depth", "heads": "heads", "hidden": "mlp_dim"}
    halves = {"": config["encoder"], "decoder_": config["decoder"]}
    sizes = {half + ours: halves[half][theirs] for half in halves for ours, theirs in names.items()}
    spec = TokenizerSpec(
        id="tiny",
        kind="vit-vqgan",
        channels=config["quantizer"]["embed_dim"],
        codebook=config["quantizer"]["n_embed"],
        downsample=config["patch_size"],
        options={**sizes, "head_width": config["encoder"]["dim_head"], "side": config["image_size"]},
    )
    torch.save({"state_dict": golden.weights}, path)
    tokenizer, image = load_vit_vqgan(spec, str(path)), golden.inputs["image"] * 2 - 1
    assert set(tokenizer.state_dict()) == set(golden.weights)
    assert near(tokenizer.map_of(image), golden.outputs["pre_quant"])
    codes = tokenizer.encode(image)
    assert torch.equal(codes, golden.outputs["codes"]) and near(tokenizer.vectors[codes], golden.outputs["quant"])
    assert near((tokenizer.decode(codes) + 1) / 2, golden.outputs["reconstruction"])
    assert near((tokenizer.decode(golden.inputs["codes"]) + 1) / 2, golden.outputs["decode_codes"])
    with pytest.raises(UsageError, match="positions for images of 16 pixels"):
        tokenizer.encode(torch.zeros(1, 3, 8, 8))
