"""The sampler: guidance per scale, filters, independence of samples, soft codes; and the embedded tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gftzoo_var
import pytest
import torch
from gftzoo_var.sampler import soft_codes
from gftzoo_var.tokenizer import MultiScaleVQ
from torch import Tensor
from torch.nn import functional as F
from var_golden import official_model, official_tokenizer, read_golden

from gftzoo.contract.guidance import Temperature
from gftzoo.data import open_source
from gftzoo.families.finding import load_family
from gftzoo.layers.categorical import draw, keep_likely
from gftzoo.model import Model
from gftzoo.zoo import get_card

CFG_OFFICIAL = 1.5


@pytest.fixture
def model(tmp_path: Path) -> Model:
    golden = read_golden("var-full")
    return official_model(golden, tmp_path, "var", official_tokenizer(golden, tmp_path))


def steered(model: Model) -> Model:
    """The same weights with a temperature input that matters."""
    torch.manual_seed(1)
    card = model.card.change(temperature=True)
    network = model.family.build_network(card)
    network.load_state_dict({**network.state_dict(), **model.network.state_dict()})
    torch.nn.init.normal_(network.beta_embed.mlp[2].weight)
    return Model(card, network, model.tokenizer, model.family)


@pytest.mark.parametrize("settings", [{}, {"top_k": 7, "top_p": 0.8}, {"more_smooth": True}])
def test_an_image_does_not_depend_on_its_batch(model: Model, settings: dict[str, Any]) -> None:
    labels = [1, 2, 3, 1]
    together = model.sample(labels, cfg=2.5, seed=3, **settings)
    apart = model.sample(labels, cfg=2.5, seed=3, batch_size=1, **settings)
    # Soft codes divide logits by a temperature of 1/200 at the last scale, and their rounding errors with them.
    tolerance = 1e-3 if settings.get("more_smooth") else 1e-5
    torch.testing.assert_close(together, apart, atol=tolerance, rtol=0)
    assert not torch.equal(together[0], together[3])


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_temperature_of_each_scale(model: Model, schedule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gft = steered(model)
    seen: list[Tensor] = []
    condition = gft.network.condition

    def spy(label: Tensor, beta: Tensor) -> Tensor:
        seen.append(beta)
        return condition(label, beta)

    monkeypatch.setattr(gft.network, "condition", spy)
    gft.sample_latents([0, 1], Temperature(1 / (1 + CFG_OFFICIAL), schedule), [0, 1])
    ramp = [1.0] if schedule == "constant" else [k / 4 for k in range(5)]  # a constant one is embedded once
    assert torch.stack(seen).tolist() == [pytest.approx([1 / (1 + CFG_OFFICIAL * r)] * 2) for r in ramp]


def test_one_forward_a_scale_with_gft_two_rows_with_cfg(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    gft = steered(model)
    for subject, strength, rows in ((gft, {"beta": 0.5}, 3), (model, {"cfg": 2.0}, 6)):
        sizes: list[int] = []
        step = subject.network.step

        def spy(scale: int, inputs: Any, condition: Tensor, caches: Any, step: Any = step, to: Any = sizes) -> Tensor:
            to.append(len(condition))
            return step(scale, inputs, condition, caches)

        monkeypatch.setattr(subject.network, "step", spy)
        subject.sample_latents([0, 1, 2], subject.guidance(**strength), [0, 1, 2])
        assert sizes == [rows] * 5


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    logits = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0)) * 2
    kept = keep_likely(logits, 0, 0.7).isfinite()
    for row, mask in zip(logits.softmax(-1).flatten(0, 1), kept.flatten(0, 1), strict=True):
        falling = row.sort(descending=True).values
        fewest = int((falling.cumsum(0) < 0.7).sum()) + 1
        assert mask.sum() == fewest
        assert row[mask].min() > (row[~mask].max() if fewest < 12 else -1)
    assert keep_likely(logits, 0, 1e-6).isfinite().sum(-1).eq(1).all()
    assert keep_likely(logits, 5, 1.0).isfinite().sum(-1).eq(5).all()
    assert torch.equal(keep_likely(logits, 0, 1.0), logits)


def test_draw_follows_the_probabilities() -> None:
    logits = torch.tensor([0.1, 0.4, 0.0, 0.5]).log().expand(1, 1000, 4)
    uniform = (torch.arange(1000) + 0.5).view(1, 1000) / 1000
    counts = torch.bincount(draw(logits, uniform).flatten(), minlength=4)
    assert counts.tolist() == [100, 400, 0, 500]


def test_soft_codes_are_weights_that_sharpen() -> None:
    logits = torch.randn(1, 1, 50, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(1, 1, 50, generator=torch.Generator().manual_seed(1))
    weights = [soft_codes(logits, progress, uniform) for progress in (0.0, 1.0)]
    assert all(w.sum().item() == pytest.approx(1.0) for w in weights)
    assert weights[1].max() > weights[0].max()


def test_smooth_samples_are_maps_that_decode(model: Model) -> None:
    latents = model.sample_latents([1, 2], model.guidance(cfg=2.5), [0, 1], more_smooth=True)
    assert latents.shape == (2, 8, 5, 5)
    assert latents.is_floating_point()
    assert model.decode(latents).shape == (2, 3, 10, 10)


def test_the_embedded_tokenizer_reconstructs_unseen_digits() -> None:
    card = get_card("var-nano")
    tokenizer = load_family("var").build_tokenizer(card.tokenizer)
    assert card.tokenizer.file is not None
    assert (Path(gftzoo_var.__file__).parent / card.tokenizer.file).stat().st_size < 3_000_000
    source = open_source("digits", "held-out")
    images = source.images(range(100), card.resolution, 1).float() / 127.5 - 1
    codes = tokenizer.encode(images)
    assert codes.shape == (100, sum(p * p for p in card.tokenizer.scales or ()))
    assert F.mse_loss(tokenizer.decode(codes), images) < 0.05 * images.var()


def test_a_loss_step_reaches_every_parameter() -> None:
    card = get_card("var-nano").change(temperature=True)
    model = Model.fresh(card, MultiScaleVQ.load(card.tokenizer, None))
    assert model.tokenizer is not None
    codes = model.tokenizer.encode(torch.rand(4, 1, 8, 8) * 2 - 1)
    loss = model.loss(codes, [0, 1, 2, 3], objective="gft")
    loss.backward()
    assert loss.item() == pytest.approx(torch.log(torch.tensor(float(card.tokenizer.codebook or 0))).item(), rel=0.05)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.network.parameters())
