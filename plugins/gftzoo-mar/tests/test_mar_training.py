"""How problems are drawn, and what an imported base model starts GFT from."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from gftzoo_mar.family import MARProblem, mask_ratio, pose
from mar_golden import official_model, read_golden
from nano import nano_latents, nano_model
from torch import nn

from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.layers.temperature import Prediction
from gftzoo.model import Model

BATCH = 6


def model_with(**network: object) -> Model:
    model = nano_model("mar-nano", temperature=True)
    card = model.card.change(network={**model.card.network, "dropout": 0.0, **network})
    torch.manual_seed(0)
    return Model.fresh(card, model.tokenizer)


def draw(model: Model, *positions: int) -> MARProblem:
    generator = SampleGenerator.for_samples("train", 0, positions)
    return model.family.draw_problem(model, nano_latents(model, BATCH)[list(positions)], generator)


def test_mask_ratios_are_the_truncated_normal() -> None:
    ratio = mask_ratio(torch.rand(200_000, generator=torch.Generator().manual_seed(0)), 0.7)
    assert ratio.min() >= 0.7 and ratio.max() <= 1
    assert abs(ratio.mean() - 0.867) < 1e-3 and abs(ratio.std() - 0.084) < 1e-3


def test_one_ratio_a_batch_needs_no_padding() -> None:
    model = model_with()
    problem = draw(model, *range(BATCH))
    assert problem.real_BV is None and bool((problem.weight_BM == 1).all())
    assert problem.visible_BV.shape[1] + problem.masked_BM.shape[1] == 16
    both = torch.cat([problem.visible_BV, problem.masked_BM], 1).sort(1).values
    assert torch.equal(both, torch.arange(16).expand(BATCH, -1))


def test_a_sample_with_its_own_ratio_does_not_depend_on_its_batch() -> None:
    model = model_with(mask_ratio="sample", mask_ratio_min=0.3)
    model.network.eval()
    condition, beta, kept = torch.arange(BATCH), torch.linspace(0.2, 1, BATCH), torch.zeros(BATCH, dtype=torch.bool)
    problem = draw(model, *range(BATCH))
    assert problem.real_BV is not None
    whole = GFT().loss_at(model, problem, condition, beta, kept)
    for i in range(BATCH):
        row = slice(i, i + 1)
        alone = GFT().loss_at(model, draw(model, i), condition[row], beta[row], kept[row])
        torch.testing.assert_close(alone, whole[row], rtol=1e-4, atol=1e-5)


def test_padding_carries_no_gradient() -> None:
    model = model_with(mask_ratio="sample", mask_ratio_min=0.3)
    problem = draw(model, *range(BATCH))
    prediction = torch.randn(*problem.noise_BMKC.shape, requires_grad=True)
    model.family.loss_term(model, prediction, problem).sum().backward()
    reached = prediction.grad.abs().sum((2, 3)) > 0
    assert torch.equal(reached, problem.weight_BM > 0)


def test_both_passes_of_gft_see_the_same_mask_timesteps_and_noise(monkeypatch) -> None:
    model = model_with()
    seen: list[MARProblem] = []
    prediction = model.family.prediction

    def recording(of: Model, problem: MARProblem, *rest: object) -> Prediction:
        seen.append(problem)
        return prediction(of, problem, *rest)

    monkeypatch.setattr(model.family, "prediction", recording)
    kept = torch.zeros(BATCH, dtype=torch.bool)
    GFT().loss_at(model, draw(model, *range(BATCH)), torch.arange(BATCH), torch.full((BATCH,), 0.5), kept)
    for field in fields(MARProblem):
        first, second = (getattr(problem, field.name) for problem in seen)
        assert first is second is None or torch.equal(first, second)


@pytest.mark.parametrize(("gft_variance", "parts"), [("fixed", 1), ("learned", 2)])
def test_what_gft_mixes(gft_variance: str, parts: int) -> None:
    model = model_with(gft_variance=gft_variance)
    problem = draw(model, 0, 1)
    prediction = model.family.predict(model, problem, torch.tensor([1, 2]), torch.ones(2))
    assert prediction.shape[-1] == parts * model.network.channels


@pytest.mark.parametrize("beta_input", ["buffer", "head", "both"])
def test_an_imported_base_model_starts_unsteered(beta_input: str, tmp_path) -> None:
    golden = read_golden("mar-train")
    base = official_model(golden, tmp_path)
    network = {**base.card.network, "beta_input": beta_input}
    model = official_model(golden, tmp_path, temperature=True, network=network)
    mask = golden.inputs["mask"].bool()
    t, noise = torch.full((*mask.shape, 1), 500), torch.randn(*mask.shape, 1, 4)
    problem = pose(golden.inputs["patches"], mask, t, noise, mask.sum(1))
    labels = golden.inputs["labels"]
    plain = base.family.predict(base, problem, labels, None)[..., :4]
    for beta in (0.1, 1.0):
        steered = model.family.predict(model, problem, labels, torch.full((len(labels),), beta))[..., :4]
        torch.testing.assert_close(steered, plain)
    # The embedding is not dead: the last layer receives a gradient.
    model.family.loss_term(
        model, model.family.predict(model, problem, labels, torch.ones(3)), problem
    ).mean().backward()
    added = [p for n, p in model.network.named_parameters() if "beta_embed.mlp.2.weight" in n]
    assert added and all(float(p.grad.abs().max()) > 0 for p in added)


def test_weights_for_other_classes_start_at_the_null_condition() -> None:
    base = nano_model("mar-nano", temperature=False)
    card = base.card.change(classes=3, class_names=("cat", "dog", "fox"))
    fitted = base.family.import_weights(card, base.network.state_dict())
    network = Model.fresh(card).network
    network.load_state_dict(fitted)
    null = network.embed_condition(torch.tensor([3]), None)
    assert torch.equal(network.embed_condition(torch.tensor([0, 1, 2]), None), null.expand(3, -1))
    assert torch.equal(null, base.network.embed_condition(torch.tensor([base.card.classes]), None))


class Halved(nn.Linear):
    """A layer that does not compute with its weight as it stands, as quantised ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize("kind", [nn.Linear, Halved])
@torch.no_grad()
def test_some_rows_of_the_last_block_are_those_of_all(kind: type[nn.Linear]) -> None:
    block = model_with().network.decoder_blocks[-1].eval()
    qkv = kind(block.attn.qkv.in_features, block.attn.qkv.out_features)
    block.attn.qkv = qkv
    x_BSW, rows_BM = torch.randn(2, 5, qkv.in_features), torch.tensor([[0, 3], [4, 1]])
    wanted = block(x_BSW)[torch.arange(2)[:, None], rows_BM]
    torch.testing.assert_close(block(x_BSW, rows_BM=rows_BM), wanted, rtol=1e-4, atol=1e-5)
