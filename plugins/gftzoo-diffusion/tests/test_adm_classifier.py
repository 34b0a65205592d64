"""ADM's noisy classifier computes what openai/guided-diffusion @22e0df8 does, and guides as its samplers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dit_golden import LINEAR, Recorded, feed_step_noise, read_golden, tiny_card
from gftzoo_diffusion.networks.adm_classifier import build_classifier
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.processes.discrete import spaced_timesteps
from gftzoo_diffusion.samplers import DiffusionSampler, sample
from gftzoo_diffusion.samplers.respaced import respaced_route
from golden import near
from test_adm_golden import adm_card, adm_model
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ByClassifier
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator


@pytest.fixture
def classifier_file(tmp_path: Path) -> Path:
    path = tmp_path / "256x256_classifier.pt"
    torch.save(read_golden("adm-classifier").weights, path)
    return path


def tiny() -> ModelCard:
    """Of the images and classes of the recorded classifier."""
    arch = read_golden("adm-classifier").config["arch"]
    return adm_card({**arch, "num_classes": arch["out_channels"]})


def test_logits_and_gradient(classifier_file: Path) -> None:
    golden = read_golden("adm-classifier")
    classifier = build_classifier(tiny(), classifier_file)
    x, t, y = (golden.inputs[key] for key in "xty")
    assert near(classifier(x, t), golden.outputs["logits"])
    scale = golden.config["classifier_scale"]
    with torch.no_grad():
        assert near(ByClassifier(classifier, scale).push(x, t, y), golden.outputs["grad"])
        assert near(ByClassifier(classifier, 3 * scale).push(x, t, y), 3 * golden.outputs["grad"])


def steps_with(push: Tensor, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Tensor:
    """One reverse step of every row of the recorded terms, without noise of its own."""
    golden = read_golden("dit-ddpm-terms")
    card = tiny_card(read_golden("dit-forward").config["arch"])
    chosen = DiffusionSampler(spacing=golden.config["respacing"], **settings)
    route = respaced_route(card, PROCESSES["linear"], chosen, SampleGenerator([0]), pushed=True)
    feed_step_noise(monkeypatch, torch.zeros(9, 1, 4, 4, 4))
    inputs = (golden.inputs["model_output"], golden.inputs["t_respaced"].tolist(), golden.inputs["x_t"], push)
    rows = zip(*(part if isinstance(part, list) else part.split(1) for part in inputs), strict=True)
    return torch.cat([route.step(*row) for row in rows])


def test_the_mean_of_an_ancestral_step_moves_by_its_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = read_golden("dit-ddpm-terms").outputs
    push = torch.randn(outputs["respaced/p_sample"].shape, generator=torch.Generator().manual_seed(0))
    for clip in (False, True):
        prefix = f"respaced/p_clip{int(clip)}"
        expected = outputs[f"{prefix}/mean"] + outputs[f"{prefix}/variance"] * push
        assert near(steps_with(push, monkeypatch, sampler="ddpm", clip=clip), expected)
    for bound in ("small", "large"):
        mean, log_variance = (outputs[f"respaced/fixed_{bound}/{part}"] for part in ("mean", "log_variance"))
        found = steps_with(push, monkeypatch, sampler="ddpm", variance=f"fixed-{bound}")
        assert near(found[1:], (mean + log_variance.exp() * push)[1:])


def test_the_noise_of_an_implicit_step_moves_behind_the_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = read_golden("dit-ddpm-terms")
    tables = LINEAR.respaced(spaced_timesteps(golden.config["respacing"]))
    x_t, t = golden.inputs["x_t"], golden.inputs["t_respaced"]
    push = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(0))
    kept, before = (tables.at(torch.cat([torch.ones(1), tables.alpha_bar_K])[i:], t, x_t) for i in (1, 0))
    for clip in (False, True):
        x_0 = golden.outputs[f"respaced/p_clip{int(clip)}/pred_xstart"]
        eps = (x_t - kept.sqrt() * x_0) / (1 - kept).sqrt() - (1 - kept).sqrt() * push
        x_0 = (x_t - (1 - kept).sqrt() * eps) / kept.sqrt()
        found = steps_with(push, monkeypatch, sampler="ddim", clip=clip)
        assert near(found, before.sqrt() * x_0 + (1 - before).sqrt() * eps)


def test_sampling_sees_the_classifier(classifier_file: Path, tmp_path: Path) -> None:
    model = adm_model(read_golden("adm-forward"), tmp_path)
    plain, off, pushed = (
        model.sample_latents([0, 3], guidance, [1, 2], steps=4)
        for guidance in (
            model.guidance(),
            model.guidance(classifier=classifier_file, classifier_scale=0.0),
            model.guidance(classifier=classifier_file, classifier_scale=100.0),
        )
    )
    assert torch.equal(plain, off) and not near(pushed, plain, 1e-3)
    for other in ({"beta": 0.5}, {"cfg": 2.0}, {"schedule": "linear"}):
        with pytest.raises(UsageError, match="two ways to steer"):
            model.guidance(classifier=classifier_file, **other)
    with pytest.raises(UsageError, match="needs its file"):
        model.guidance(classifier_scale=1.0)


def test_files_that_are_no_such_classifier_are_refused(classifier_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.pt"
    torch.save(read_golden("adm-forward").weights, other)
    with pytest.raises(UsageError, match="no classifier of noisy images"):
        build_classifier(tiny(), other)
    with pytest.raises(UsageError, match="knows 6 classes, and tiny has 5"):
        build_classifier(tiny().change(classes=5), classifier_file)
    with pytest.raises(UsageError, match="no classifier of images of 12x12"):
        build_classifier(tiny().change(resolution=12), classifier_file)
    with pytest.raises(UsageError, match="takes no classifier"):
        model = adm_model(read_golden("adm-forward"), tmp_path)
        sample(model, torch.tensor([0]), ByClassifier(nn.Identity(), 1.0), DiffusionSampler(), Recorded(torch.zeros(1)))
