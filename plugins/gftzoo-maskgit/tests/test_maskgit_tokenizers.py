"""The tokenizers equal the official codes': maps, exact indices, reconstructions, from files as they are published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden import Golden, near
from maskgit_golden import read_golden, write_flax
from safetensors.torch import save_file
from torch import Tensor

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.tokenizers.quantised import ConvTokenizer
from gftzoo.tokenizers.quantised.bits import from_bits, to_bits
from gftzoo.zoo import get_tokenizer_spec

# google-research/maskgit, LTH14/mage, markweberdev/maskbit, TencentARC/SEED-Voken: options of their tiny tokenizers
TINY = {
    "maskgit-vqgan": {"multipliers": [2, 1], "middle": 1},
    "mage": {"multipliers": [1, 1], "middle": 2},
    "maskbit": {"multipliers": [1, 1], "middle": 1, "down": "same"},
    "openmagvit2-lfq": {
        "multipliers": [1, 1], "middle": 1, "down": "symmetric", "shortcut": "input", "adaptive": True,
        "unit_range": False,
    },
}  # fmt: skip
SIZES = {"maskgit-vqgan": (16, 64), "mage": (12, 32), "maskbit": (6, 64), "openmagvit2-lfq": (7, 128)}


def tiny_spec(name: str) -> TokenizerSpec:
    channels, codebook = SIZES[name]
    kind = "conv-vq" if name in ("maskgit-vqgan", "mage") else "conv-lfq"
    options = {"width": 32, "blocks": 1, **TINY[name]}
    return TokenizerSpec(id="tiny", kind=kind, channels=channels, downsample=2, codebook=codebook, options=options)


def official_file(name: str, golden: Golden, folder: Path) -> Path:
    """The golden's weights as the official codes keep them."""
    if name == "maskgit-vqgan":
        return write_flax(folder / "tokenizer_imagenet256_checkpoint", golden.weights)
    path = folder / "tokenizer.ckpt"
    if name == "mage":
        torch.save({"model": golden.weights}, path)
    elif name == "maskbit":
        torch.save(golden.part("tokenizer"), path)
    else:
        average = {f"model_ema.{key.replace('.', '')}": value for key, value in golden.weights.items()}
        raw = {key: torch.zeros_like(value) for key, value in golden.weights.items()}
        loss = {"loss.discriminator.main.0.weight": torch.zeros(3)}
        torch.save({"state_dict": {**raw, **loss, **average}, "epoch": 3, "global_step": 7}, path)
    return path


def tiny(name: str, golden: Golden, folder: Path) -> ConvTokenizer:
    return load_family("maskgit").build_tokenizer(tiny_spec(name), str(official_file(name, golden, folder)))


def quantised(tokenizer: ConvTokenizer, images: Tensor) -> tuple[Tensor, Tensor]:
    """The map, and its codes, of images in the tokenizer's own range."""
    z = tokenizer.encoder(images)
    return z, tokenizer.quantise(z)


def test_maskgit(tmp_path) -> None:
    golden = read_golden("maskgit-vqgan")
    tokenizer, images = tiny("maskgit-vqgan", golden, tmp_path), golden.inputs["image"].permute(0, 3, 1, 2)
    z, codes = quantised(tokenizer, images)
    assert near(z.permute(0, 2, 3, 1), golden.outputs["pre_quant"])
    assert torch.equal(codes, golden.outputs["indices"].flatten(1).long())
    assert torch.equal(tokenizer.encode(images * 2 - 1), codes)
    assert near(tokenizer.look_up(codes).permute(0, 2, 3, 1), golden.outputs["quantized"])
    for output, given in (("reconstruction", codes), ("decode_from_indices", golden.inputs["codes"].flatten(1).long())):
        found = (tokenizer.decode(given) + 1) / 2
        assert near(found.permute(0, 2, 3, 1), golden.outputs[output])


@pytest.mark.parametrize("name", ["mage", "mage-small"])
def test_mage(name: str, tmp_path) -> None:
    golden = read_golden(name)
    tokenizer = tiny("mage", golden, tmp_path)
    z, codes = quantised(tokenizer, golden.inputs["image"])
    assert near(z, golden.outputs["pre_quant"]) and torch.equal(codes, golden.outputs["indices"])
    assert near((tokenizer.decode(codes) + 1) / 2, golden.outputs["reconstruction"])
    if name == "mage":
        found = (tokenizer.decode(golden.outputs["t6_temp4.5/tokens"]) + 1) / 2
        assert near(found, golden.outputs["t6_temp4.5/image"])


@pytest.mark.parametrize("run", ["cfg_cosine", "nocfg"])
def test_maskbit(run: str, tmp_path) -> None:
    golden = read_golden("maskbit")
    tokenizer = tiny("maskbit", golden, tmp_path)
    found = (tokenizer.decode(golden.outputs[f"{run}/final_tokens"]) + 1) / 2
    assert near(found.clamp(0, 1), golden.outputs[f"{run}/image"].clamp(0, 1))
    assert torch.equal(golden.weights["tokenizer/quantize.codebook"], to_bits(torch.arange(64), 6))


@pytest.mark.parametrize("name", ["openmagvit2-lfq", "openmagvit2-lfq-small"])
def test_open_magvit2(name: str, tmp_path) -> None:
    golden = read_golden(name)
    tokenizer, out = tiny("openmagvit2-lfq", golden, tmp_path), golden.outputs
    z, codes = quantised(tokenizer, golden.inputs["image"])
    assert near(z, out["pre_quant"]) and torch.equal(codes.flatten(), out["indices"])
    assert torch.equal(tokenizer.encode(golden.inputs["image"]), codes)
    assert torch.equal(tokenizer.look_up(codes), out["quant"])
    assert near(tokenizer.decode(codes), out["reconstruction"])
    assert near(tokenizer.decode(golden.inputs["codes"]), out["decode_codes"])
    before, after = golden.config["factorized_bits"]
    assert torch.equal(codes.flatten() & (1 << before) - 1, out["indices_pre"])
    assert torch.equal(codes.flatten() >> before, out["indices_post"])
    joined = golden.inputs["codes_pre"] | golden.inputs["codes_post"] << before
    assert near(tokenizer.decode(joined), out["decode_factorized"])
    assert after == 4


def test_zero_is_a_negative_bit() -> None:
    assert from_bits(torch.tensor([[0.0, 1.0, -0.0, 2.0]])).tolist() == [0b1010]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("maskgit-vq", 54_515_587),
        ("mage-vq", 54_515_587),
        ("maskbit-10", 54_469_005),
        ("maskbit-12", 54_479_247),
        ("maskbit-14", 54_489_489),
        ("maskbit-16", 54_499_731),
        ("maskbit-18", 54_509_973),
        ("open-magvit2-18", 115_127_829),
        ("open-magvit2-14", 115_094_033),
    ],
)
def test_counts(name: str, parameters: int) -> None:
    with torch.device("meta"):
        tokenizer = ConvTokenizer(get_tokenizer_spec(name))
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == parameters


def test_names_of_1d_tokenizer(tmp_path) -> None:
    """bytedance/1d-tokenizer keeps Google's tokenizer with levels counted from the full resolution."""
    golden = read_golden("mage")
    tensors = {key.removeprefix("vqgan."): v for key, v in golden.weights.items() if key.startswith("vqgan.")}
    for old, new in (
        (".mid.block_1.", ".mid.0."),
        (".mid.block_2.", ".mid.1."),
        (".upsample.conv.", ".upsample_conv."),
    ):
        tensors = {key.replace(old, new): tensor for key, tensor in tensors.items()}
    save_file(tensors, tmp_path / "vq.safetensors")
    found = load_family("maskgit").build_tokenizer(tiny_spec("mage"), str(tmp_path / "vq.safetensors"))
    assert torch.equal(quantised(found, golden.inputs["image"])[1], golden.outputs["indices"])


def test_another_network_and_a_wrong_codebook_are_refused(tmp_path) -> None:
    golden = read_golden("maskgit-vqgan")
    path = official_file("maskgit-vqgan", golden, tmp_path)
    family, spec = load_family("maskgit"), tiny_spec("maskgit-vqgan")
    with pytest.raises(GftzooError, match="does not fit"):
        family.build_tokenizer(spec.model_copy(update={"options": {**spec.options, "blocks": 2}}), str(path))
    with pytest.raises(UsageError, match=r"2\^7 = 128 codes, and has codebook=64"):
        ConvTokenizer(tiny_spec("openmagvit2-lfq").model_copy(update={"codebook": 64}))
