"""The network, the tokenizer and the sampler compute what the official code computes, from files as it writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gftzoo_var.quantizer import Quantizer, phi_index
from var_golden import official_model, official_tokenizer, per_scale, read_golden

from gftzoo.contract.guidance import ClassifierFree, Unguided
from gftzoo.generator import SampleGenerator

FORWARDS = {"var-forward-nol2": 1e-4, "var-forward-nol2-shared": 1e-4, "var-forward-shared": 2e-4}


@pytest.mark.parametrize("name", FORWARDS)
def test_logits(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    model = official_model(golden, tmp_path)
    label, inputs = golden.inputs["label"], golden.inputs["x_BLCv_wo_first_l"]
    with torch.no_grad():
        logits = model.network(inputs, label)
        dropped = golden.inputs["drop_uniform"] < golden.config["var"]["cond_drop_rate"]
        logits_drop = model.network(inputs, model.family.condition_drop(model, label, dropped))
    assert dropped.any() and not dropped.all()
    torch.testing.assert_close(logits, golden.outputs["logits"], atol=FORWARDS[name], rtol=0)
    torch.testing.assert_close(logits_drop, golden.outputs["logits_drop"], atol=FORWARDS[name], rtol=0)


def test_tokenizer(tmp_path: Path) -> None:
    golden = read_golden("var-full")
    tokenizer = official_tokenizer(golden, tmp_path)
    image, codes = golden.inputs["image"], per_scale(golden, "idx")
    f = tokenizer.quant_conv(tokenizer.encoder(image))
    torch.testing.assert_close(f, golden.outputs["f"], atol=1e-4, rtol=0)
    assert torch.equal(tokenizer.encode(image), codes)
    f_hat = tokenizer.quantize.decode(codes)
    torch.testing.assert_close(f_hat, golden.outputs["f_hat_from_image"], atol=1e-4, rtol=0)
    torch.testing.assert_close(tokenizer.teacher_inputs(codes), golden.outputs["var_input"], atol=1e-4, rtol=0)
    decoded = tokenizer.decode(codes).clamp(-1, 1)
    torch.testing.assert_close(decoded, golden.outputs["reconstruction"], atol=1e-4, rtol=0)
    from_map = tokenizer.decode(golden.inputs["f_hat"]).clamp(-1, 1)
    torch.testing.assert_close(from_map, golden.outputs["fhat_to_img"], atol=1e-4, rtol=0)


def test_codes_do_not_depend_on_the_precision() -> None:
    torch.manual_seed(0)
    quantizer, z = Quantizer(64, 8, (1, 2, 8), 1), torch.randn(4, 8, 8, 8)
    exact = torch.cdist(z.flatten(2).mT.double(), quantizer.embedding.weight.double()).argmin(-1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.nearest(z), exact)


@pytest.mark.parametrize("scales", [4, 5, 10])
def test_phi_of_each_scale(scales: int) -> None:
    assert phi_index(scales, 4) == read_golden("var-full").outputs[f"phi_index/S{scales}"].tolist()


def test_logits_from_codes(tmp_path: Path) -> None:
    golden = read_golden("var-full")
    tokenizer = official_tokenizer(golden, tmp_path)
    model = official_model(golden, tmp_path, "var", tokenizer)
    codes = tokenizer.encode(golden.inputs["image"])
    problem = model.family.draw_problem(model, codes, SampleGenerator([0, 1]))
    with torch.no_grad():
        logits = model.family.predict(model, problem, golden.inputs["label"], None)
    torch.testing.assert_close(logits, golden.outputs["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("cfg", ["0.0", "1.5"])
def test_greedy_sampling(cfg: str, tmp_path: Path) -> None:
    golden = read_golden("var-full")
    model = official_model(golden, tmp_path, "var", official_tokenizer(golden, tmp_path))
    labels = golden.inputs["label"].tolist()
    guidance = model.guidance(cfg=1 + float(cfg))  # the official scale is 0 where ours is 1
    assert guidance == (Unguided() if cfg == "0.0" else ClassifierFree(2.5, "linear"))
    codes = model.sample_latents(labels, guidance, [0, 1], top_k=1)
    assert torch.equal(codes, per_scale(golden, f"greedy_cfg{cfg}/idx"))
    torch.testing.assert_close(model.decode(codes), golden.outputs[f"greedy_cfg{cfg}/image"], atol=1e-4, rtol=0)
