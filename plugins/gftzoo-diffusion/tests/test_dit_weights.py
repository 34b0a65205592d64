"""Official weights find their places, and what a card adds starts without effect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.training import DiffusionProblem

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import GftzooError
from gftzoo.gft import GFT
from gftzoo.loading.files import import_model, locate
from gftzoo.model import Model
from gftzoo.zoo import get_card

LINEAR = PROCESSES["linear"].variances()


@pytest.fixture(scope="module")
def base() -> Model:
    card = get_card("dit-nano")
    torch.manual_seed(0)
    model = Model.fresh(card.change(network={**card.network, "depth": 2}))
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def base_file(base: Model, tmp_path: Path) -> Path:
    torch.save(base.network.state_dict(), tmp_path / "base.pt")
    return tmp_path / "base.pt"


def problem_for(model: Model) -> DiffusionProblem:
    generator = torch.Generator().manual_seed(0)
    side, channels = model.card.grid, model.card.tokenizer.channels
    x_0, noise = (torch.randn(3, channels, side, side, generator=generator) for _ in range(2))
    t = torch.tensor([3, 400, 900])
    return DiffusionProblem(LINEAR.noised(x_0, t, noise), t, noise, x_0)


@pytest.mark.parametrize("embedding", ["linear", "mlp", "3-layer"])
def test_fine_tuning_starts_at_the_base_model(embedding: str, base: Model, base_file: Path) -> None:
    card = base.card.change(temperature=True, network={**base.card.network, "beta_embedding": embedding})
    model = import_model(card, base_file)
    problem, y = problem_for(base), torch.tensor([1, 2, 10])
    expected = base.family.predict(base, problem, y, None)
    for beta in (0.0, 0.4, 1.0):
        assert torch.equal(model.family.predict(model, problem, y, torch.full((3,), beta)), expected)
    # and still learns it: the zero layer gets a gradient
    loss = GFT().loss_at(model, problem, y, torch.full((3,), 0.5), torch.zeros(3, dtype=torch.bool))
    loss.mean().backward()
    new = [p for name, p in model.network.named_parameters() if name not in base.network.state_dict()]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in new)


@pytest.mark.parametrize("embedding", ["linear", "mlp", "3-layer"])
def test_training_from_scratch_starts_with_a_working_temperature(embedding: str) -> None:
    card = get_card("dit-nano")
    card = card.change(temperature=True, network={**card.network, "depth": 1, "beta_embedding": embedding})
    network = Model.fresh(card).network
    t, y = torch.tensor([5, 5]), torch.tensor([1, 1])
    first, second = network.condition(t, y, torch.tensor([0.2, 0.9]))
    assert not torch.allclose(first, second)
    assert network(torch.randn(2, 1, 8, 8), t, y, torch.tensor([0.2, 0.9])).abs().sum() == 0  # adaLN-Zero


def test_steered_weights_come_back_whole(base: Model, tmp_path: Path) -> None:
    card = base.card.change(temperature=True)
    torch.manual_seed(1)
    model = Model.fresh(card)
    torch.save({"model": model.network.state_dict()}, tmp_path / "gft.pt")
    again = import_model(card, tmp_path / "gft.pt").network.state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.network.state_dict().items())
    with pytest.raises(GftzooError, match="beta_embedder"):
        import_model(base.card, tmp_path / "gft.pt")


def test_other_classes_start_at_the_null_class(base: Model, base_file: Path) -> None:
    model = import_model(base.card.change(classes=4), base_file)
    null = base.network.y_embedder.embedding_table.weight[-1]
    table = model.network.y_embedder.embedding_table.weight
    assert table.shape[0] == 5
    assert torch.equal(table, null.expand(5, -1))


def test_another_resolution_has_its_own_positions(base: Model, base_file: Path) -> None:
    larger: ModelCard = base.card.change(resolution=16)
    assert torch.equal(import_model(larger, base_file).network.pos_embed, Model.fresh(larger).network.pos_embed)


def test_weights_of_another_size_are_refused(base: Model, base_file: Path) -> None:
    with pytest.raises(GftzooError, match="does not fit this model"):
        import_model(base.card.change(network={**base.card.network, "width": 64}), base_file)


def test_official_weights_are_fetched_from_their_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched: list[str] = []

    def download(url: str, target: str) -> None:
        fetched.append(url)
        Path(target).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for _ in range(2):  # the second time it is there
        found = locate(get_card("dit-xl-512"), "base")
        assert found.path.read_bytes() == b"weights" and found.card == get_card("dit-xl-512")
    assert fetched == ["https://dl.fbaipublicfiles.com/DiT/models/DiT-XL-2-512x512.pt"]
