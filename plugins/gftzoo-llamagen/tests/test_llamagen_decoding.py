"""Decoding with a cache is decoding without one; an image depends on its own seed and condition only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gftzoo_llamagen.network import CodeDecoder, Transformer
from gftzoo_llamagen.sampler import SamplerOptions
from llamagen_golden import ARCH, NO_DROPOUT, random_model, tiny_card
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.errors import UsageError
from gftzoo.layers.categorical import keep_likely
from gftzoo.layers.llama import rotate, rotations

CPU = torch.device("cpu")
TEXT = {"caption_tokens": 6, "caption_features": 12}


def text_model(temperature: bool = False):
    sizes = {"depth": 2, "width": 32, "heads": 2, "hidden_multiple": 32}
    return random_model(temperature, condition="text", classes=0, network={**sizes, **NO_DROPOUT, **TEXT})


def captions(batch: int = 3) -> Tensor:
    """Captions of 6, 4 and 1 tokens, padded on the left."""
    features = torch.randn(batch, 6, 12, generator=torch.Generator().manual_seed(3))
    features[1, :2] = 0
    features[2, :5] = 0
    return features


def condition_of(kind: str) -> Tensor:
    return captions() if kind == "text" else torch.tensor([1, 7, 10])


@torch.no_grad()
def incremental(network: Transformer, codes: Tensor, condition: Tensor, beta: Tensor | None) -> Tensor:
    decoder = CodeDecoder(network, condition)
    logits = [decoder.prefill(beta)]
    for n in range(codes.shape[1] - 1):
        logits.append(decoder.step(codes[:, n], torch.tensor([network.prefix + n]), None))
    return torch.stack(logits, 1)


@pytest.mark.parametrize("kind", ["class", "text"])
@pytest.mark.parametrize("temperature", [False, True])
def test_cached_decoding_is_full_decoding(kind: str, temperature: bool) -> None:
    model = text_model(temperature) if kind == "text" else random_model(temperature)
    codes, beta = torch.randint(64, (3, 16)), torch.tensor([0.2, 0.6, 1.0]) if temperature else None
    with torch.no_grad():
        full = model.network(codes, condition_of(kind), beta)
    cached = incremental(model.network, codes, condition_of(kind), beta)
    torch.testing.assert_close(cached, full, atol=2e-5, rtol=1e-5)
    assert full.std(1).min() > 0.1  # positions differ


@pytest.mark.parametrize("kind", ["class", "text"])
@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_cached_decoding_is_full_decoding_in_bf16(kind: str, how: str) -> None:
    model = text_model(True) if kind == "text" else random_model(True)
    codes, beta = torch.randint(64, (3, 16)), torch.tensor([0.2, 0.6, 1.0])
    with torch.no_grad():
        exact = model.network(codes, condition_of(kind), beta)
    if how == "weights":
        model.network.to(torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        full = model.network(codes, condition_of(kind), beta)
        cached = incremental(model.network, codes, condition_of(kind), beta)
    assert (cached - full).abs().max() < 0.02 * exact.std() * 4
    assert (full - exact).abs().mean() < 0.02 * exact.std()  # what bf16 itself costs


def test_a_code_does_not_see_later_codes() -> None:
    model, classes = random_model(), torch.tensor([1, 2])
    codes = torch.randint(64, (2, 16))
    changed = codes.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 64
    with torch.no_grad():
        difference = (model.network(codes, classes) - model.network(changed, classes)).abs().amax((0, 2))
    assert difference[:10].max() == 0 and difference[10:].min() > 1e-4


def test_padding_of_a_caption_changes_nothing() -> None:
    network = text_model().network
    codes, features = torch.randint(64, (3, 16)), captions()
    with torch.no_grad():
        before = network(codes, features)
        rows = features[1:2, 2:]  # the caption of four tokens, alone
        network.prefix = 4
        torch.testing.assert_close(network(codes[1:2], rows), before[1:2], atol=1e-5, rtol=1e-5)


def test_the_null_caption_keeps_the_padding() -> None:
    model = text_model()
    null = model.null_condition(captions())
    uncond = model.network.cls_embedding.uncond_embedding
    assert torch.equal(null[0], uncond)
    assert torch.equal(null[1], torch.cat([torch.zeros(2, 12), uncond[2:]]))
    kept = model.family.condition_drop(model, captions(), torch.tensor([False, True, False]))
    assert torch.equal(kept[::2], captions()[::2]) and torch.equal(kept[1], null[1])


def test_condition_tokens_do_not_turn_but_vanish() -> None:
    cos, sin = rotations(4, 16, 3, CPU)
    assert cos.shape == (19, 8)
    assert torch.equal(rotate(torch.randn(1, 2, 3, 16), cos[:3], sin[:3]), torch.zeros(1, 2, 3, 16))
    x = torch.randn(1, 2, 16, 16)
    torch.testing.assert_close(rotate(x, cos[3:], sin[3:]).norm(dim=-1), x.norm(dim=-1))


def test_rotary_positions_are_relative_rows_and_columns() -> None:
    cos, sin = rotations(4, 16, 0, CPU)
    q, k = torch.randn(2, 16).unbind(0)

    def logit(i: tuple[int, int], j: tuple[int, int]) -> Tensor:
        a, b = i[0] * 4 + i[1], j[0] * 4 + j[1]
        return rotate(q[None], cos[a : a + 1], sin[a : a + 1]) @ rotate(k[None], cos[b : b + 1], sin[b : b + 1]).T

    torch.testing.assert_close(logit((2, 1), (0, 0)), logit((3, 3), (1, 2)))
    assert (logit((2, 1), (0, 0)) - logit((1, 2), (0, 0))).abs() > 1e-3


GUIDED: list[tuple[bool, Guidance]] = [
    (False, Unguided()),
    (False, ClassifierFree(2.0)),
    (False, ClassifierFree(2.0, "linear")),
    (True, Temperature(0.5)),
]


@pytest.mark.parametrize(("temperature", "guidance"), GUIDED)
def test_an_image_does_not_depend_on_its_batch(temperature: bool, guidance: Guidance) -> None:
    model, classes, seeds = random_model(temperature), [3, 1, 4, 1, 5], [11, 12, 13, 14, 15]
    together = model.sample_latents(classes, guidance, seeds, top_k=20, top_p=0.95)
    alone = [
        model.sample_latents([c], guidance, [s], top_k=20, top_p=0.95) for c, s in zip(classes, seeds, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together[1], together[3])  # same class, another seed
    assert together.dtype == torch.int64 and together.shape == (5, 16)


def test_text_sampling_does_not_depend_on_the_batch() -> None:
    model = text_model()
    from gftzoo.generator import SampleGenerator

    settings, guidance = SamplerOptions(top_k=20), ClassifierFree(3.0)
    draws = [
        model.family.temperature_sampler(model, captions()[rows], guidance, settings, SampleGenerator(seeds))
        for rows, seeds in ((slice(None), [1, 2, 3]), (slice(1, 2), [2]))
    ]
    assert torch.equal(draws[0][1:2], draws[1])


@pytest.mark.parametrize("slope", [{}, {"temperature_input": "affine", "temperature_blocks": 1}])
@pytest.mark.parametrize(("temperature", "guidance"), GUIDED[1:])
def test_the_compiled_step_is_one_graph_and_the_same(
    slope: dict[str, object], temperature: bool, guidance: Guidance
) -> None:
    model = random_model(temperature, network=tiny_card(ARCH).network | slope)
    torch._dynamo.reset()
    graphs: Any = CompileCounter()
    plain = model.sample_latents([3, 1], guidance, [5, 6])
    model.compile(backend=graphs)
    assert torch.equal(model.sample_latents([3, 1], guidance, [5, 6]), plain)
    assert graphs.frame_count == 1  # one graph for all positions
    model.sample_latents([2, 7], guidance, [7, 8])
    assert graphs.frame_count == 1  # and for the next batch


def test_a_ramp_of_the_temperature_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot follow schedule 'linear'"):
        random_model(True).sample_latents([1], Temperature(0.5, "linear"), [0])


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    uniform = (torch.arange(1000) + 0.5) / 1000
    codes = SamplerOptions().draw(logits.expand(1000, 4), uniform)
    assert torch.bincount(codes, minlength=4).tolist() == [100, 500, 150, 250]
    cold = SamplerOptions(temperature=0.5).draw(logits.expand(1000, 4), uniform)
    weights = torch.tensor([0.1, 0.5, 0.15, 0.25]).square()
    torch.testing.assert_close(torch.bincount(cold) / 1000, weights / weights.sum(), atol=2e-3, rtol=0)


def test_extreme_uniform_numbers_draw_possible_codes() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    assert SamplerOptions().draw(logits, torch.tensor([0.0])).item() == 1
    assert SamplerOptions().draw(logits, torch.tensor([1 - 2**-24])).item() == 2


def test_top_k_and_top_p() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()

    def kept(top_k: int, top_p: float) -> list[int]:
        return keep_likely(logits, top_k, top_p)[0].isfinite().nonzero().flatten().tolist()

    assert kept(0, 1.0) == [0, 1, 2, 3]
    assert kept(1, 1.0) == [1] and kept(2, 1.0) == [1, 3] and kept(9, 1.0) == [0, 1, 2, 3]
    assert kept(0, 0.4) == [1] and kept(0, 0.6) == [1, 3] and kept(0, 0.8) == [1, 2, 3]
    assert kept(2, 0.6) == [1]  # of the two left, the first has two thirds
