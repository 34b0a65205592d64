"""Sampling equals the official code's where orders and noise are given; so does the autoencoder."""

from __future__ import annotations

import pytest
import torch
from gftzoo_mar.head import HeadMLP
from gftzoo_mar.sampler import HeadSampler, SamplerOptions, masked_counts, sample
from gftzoo_mar.tokenizer import KL16
from golden import Golden, near
from mar_golden import official_model, read_golden
from torch import Tensor, nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.guidance import ClassifierFree, Guidance, Unguided
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family


class Recorded:
    """A generator that hands out a golden's orders and noise; guided runs recorded noise of the null half too."""

    def __init__(self, golden: Golden, run: str) -> None:
        self.inputs, self.run, self.iteration = golden.inputs, run, 0

    def permutation(self, n: int) -> Tensor:
        return self.inputs["orders"]

    def normal(self, rows: int, tokens: int, channels: int) -> Tensor:
        place = f"noise/{self.run}/iter{self.iteration}"
        init, steps = self.inputs[f"{place}/init"], self.inputs[f"{place}/steps"]
        self.iteration += 1
        noise = torch.cat([init[None], steps[:, : len(init)]])  # (rows, B * tokens, C), batch-major
        assert len(noise) == rows
        return noise.view(rows, -1, tokens, channels).transpose(0, 1)


GUIDANCE: dict[str, Guidance] = {"cfg1": Unguided(), "cfg2_linear": ClassifierFree(2.0, "linear")}
# The random network grows to 1e4 where sampling starts at the last timestep, hence the looser scale there.
CASES = [("mar-sample", "even"), ("mar-sample-ddim", "stride")]


@pytest.mark.parametrize("run", GUIDANCE)
@pytest.mark.parametrize(("name", "spacing"), CASES)
def test_sampling(name: str, spacing: str, run: str, tmp_path) -> None:
    golden = read_golden(name)
    model = official_model(golden, tmp_path)
    settings = SamplerOptions(steps=golden.config["num_iter"], head_steps=10, head_spacing=spacing)
    latents = sample(model, golden.inputs["labels"], GUIDANCE[run], settings, Recorded(golden, run))
    assert near(latents, golden.outputs[f"{run}/latents"])


@pytest.mark.parametrize("run", GUIDANCE)
def test_vectors_and_guidance_of_each_iteration(run: str, tmp_path, monkeypatch) -> None:
    golden = read_golden("mar-sample-ddim")
    model = official_model(golden, tmp_path)
    seen: list[tuple[Tensor, float]] = []
    draw = HeadSampler.draw

    def recording(self: HeadSampler, z: Tensor, beta: Tensor | None, noise: Tensor, progress: float) -> Tensor:
        seen.append((z, progress))
        return draw(self, z, beta, noise, progress)

    monkeypatch.setattr(HeadSampler, "draw", recording)
    settings = SamplerOptions(steps=4, head_steps=10, head_spacing="stride")
    sample(model, golden.inputs["labels"], GUIDANCE[run], settings, Recorded(golden, run))
    scale = golden.config["runs"][run][0]
    for k, (z, progress) in enumerate(seen):
        assert near(z.flatten(0, 1), golden.outputs[f"{run}/iter{k}/z"])
        assert 1 + (scale - 1) * progress == pytest.approx(float(golden.outputs[f"{run}/iter{k}/cfg_iter"]))


class HeadOnly(nn.Module):
    """What the head sampler needs of a network."""

    def __init__(self, net: HeadMLP) -> None:
        super().__init__()
        self.diffloss = nn.Module()
        self.diffloss.net = net
        self.mask_token = nn.Parameter(torch.zeros(1))


@torch.no_grad()
@pytest.mark.parametrize("spacing", ["even", "stride"])
@pytest.mark.parametrize(("output", "temperature", "cfg"), [("temp1.0", 1.0, 1), ("temp0.9", 0.9, 1), ("cfg", 1.0, 2)])
def test_head_sampling(output: str, temperature: float, cfg: int, spacing: str) -> None:
    golden = read_golden("mar-diffloss")
    i, sizes = golden.inputs, golden.config["diffloss"]
    net = HeadMLP(sizes["target_channels"], sizes["z_channels"], sizes["width"], sizes["depth"], temperature=False)
    net.load_state_dict({key.removeprefix("net."): value for key, value in golden.weights.items()})
    settings = SamplerOptions(head_steps=10, head_spacing=spacing, head_temperature=temperature)
    guidance: Guidance = Unguided() if cfg == 1 else ClassifierFree(golden.config["cfg"])
    steps = i["sample/step_noise"] if cfg == 1 else i["sample_cfg/step_noise"][:, :6]
    z = i["z"] if cfg == 1 else torch.cat([i["z"], i["z_null"]])
    noise = torch.cat([i["sample/init"][None], steps]).transpose(0, 1).unsqueeze(2)
    drawn = HeadSampler(HeadOnly(net), guidance, settings, True).draw(z[:, None], None, noise, 1.0)[:, 0]
    expected = golden.outputs[f"{'ddim/' if spacing == 'stride' else ''}sample_{output}"][:6]
    assert near(drawn, expected, 1e-4 if spacing == "stride" else 1e-5)


def test_the_official_numbers_of_tokens() -> None:
    counts = masked_counts(256, 256)
    assert counts == list(range(255, -1, -1))
    revealed = [a - b for a, b in zip([256, *masked_counts(256, 64)], masked_counts(256, 64), strict=False)]
    assert sum(revealed) == 256 and min(revealed) == 1 and max(revealed) == 7
    assert masked_counts(16, 99) == list(range(15, -1, -1))


@pytest.fixture
def autoencoder(tmp_path) -> tuple[Golden, Tokenizer]:
    golden = read_golden("mar-kl16")
    c = golden.config
    options = {"width": c["ch"], "multipliers": c["ch_mult"], "blocks": c["num_res_blocks"], "attention": [1]}
    spec = TokenizerSpec(id="t", kind="kl-16", channels=c["embed_dim"], downsample=2, scale=0.2325, options=options)
    path = tmp_path / "kl16.ckpt"
    torch.save({"model": {**golden.weights, "loss.logvar": torch.zeros(())}}, path)
    family: Family = load_family("mar")
    return golden, family.build_tokenizer(spec, str(path))


class Given:
    """A generator with one draw."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def normal(self, *shape: int) -> Tensor:
        return self.noise


def test_autoencoder(autoencoder: tuple[Golden, Tokenizer]) -> None:
    golden, tokenizer = autoencoder
    assert isinstance(tokenizer, KL16)
    i, o, scale = golden.inputs, golden.outputs, 0.2325
    mean, log_variance = tokenizer.posterior(i["image"])
    assert near(mean, o["mean"]) and near(log_variance, o["logvar"])
    assert near(tokenizer.encode(i["image"]), o["mean"] * scale)
    assert near(tokenizer.encode(i["image"], Given(i["sample_noise"])), o["sample"] * scale)
    assert near(tokenizer.decode(i["z"] * scale), o["decode"])
    assert near(tokenizer.decode(tokenizer.encode(i["image"])), o["reconstruction"])
