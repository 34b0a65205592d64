"""unCLIP's two models: as many weights as published, a pipeline's weights taken, trained with GFT, and drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.deprecated.unclip import pipeline_unclip
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers import scheduling_unclip
from gftzoo_text2image.unclip.conditions import parts_of
from tiny_karlo import card_of, model_of, write_karlo

from gftzoo.errors import UsageError
from gftzoo.exporting import export
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator, seed_for
from gftzoo.gft import GFT, GFTOptions
from gftzoo.loading import load
from gftzoo.loading.files import import_model, locate
from gftzoo.model import Model
from gftzoo.sampling import image_seeds
from gftzoo.testing import CHECKS, Subject, examine
from gftzoo.zoo import get_card

PROMPTS = ["a red apple", "moon"]
NAMES = ("karlo-prior", "karlo-decoder")


@pytest.mark.parametrize("name", [*NAMES, "dall-e-2"])
def test_the_published_sizes(name: str) -> None:
    card = get_card(name)
    with torch.device("meta"):
        network = load_family(card.family).build_network(card)
    assert sum(p.numel() for p in network.parameters()) == card.parameters
    assert bool(card.checkpoints) == (name != "dall-e-2")


@pytest.fixture(scope="module")
def karlo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's folder, with gftzoo's decoder and prior in `ours` and `prior-of-ours` of it."""
    folder = write_karlo(tmp_path_factory.mktemp("karlo"))
    for name, place in zip(NAMES, ("prior-of-ours", "ours"), strict=True):
        model_of(card_of(name, folder), folder).save(folder / place)
    return folder


def sampled(name: str, folder: Path) -> dict[str, Any]:
    few = {"steps": 2}
    return few if name == "karlo-prior" else {**few, "prior": str(folder / "prior-of-ours"), "prior_steps": 2}


@pytest.mark.parametrize("name", NAMES)
def test_a_pipelines_weights(name: str, karlo: Path) -> None:
    """They predict what diffusers' classes predict, and an added temperature changes nothing until it is trained."""
    card = card_of(name, karlo)
    located = locate(card, karlo)
    model = import_model(located.card, located.path, located=located)
    condition = model.encode_condition(PROMPTS)
    text, t, stream = parts_of(model, condition), torch.tensor([5, 870]), SampleGenerator([0, 1])
    seen, image = stream.normal(16, 1, 1), stream.normal(16)
    problem = model.family.draw_problem(model, seen, stream)
    with torch.no_grad():
        if name == "karlo-prior":
            ours = model.network(seen.flatten(1), t, text["text"], text["states"], text["mask"])
            prior = diffusers.PriorTransformer.from_pretrained(karlo, subfolder="prior")
            theirs = prior(seen.flatten(1), t, text["text"], text["states"], text["mask"].bool())[0]
        else:
            pictures = stream.normal(3, 8, 8)
            ours = model.network(pictures, t, image, text)
            unet = diffusers.UNet2DConditionModel.from_pretrained(karlo, subfolder="decoder")
            project = UnCLIPTextProjModel.from_pretrained(karlo, subfolder="text_proj")
            states, vector = project(
                image_embeddings=image, prompt_embeds=text["text"], text_encoder_hidden_states=text["states"],
                do_classifier_free_guidance=False,
            )  # fmt: skip
            mask = torch.nn.functional.pad(text["mask"], (2, 0), value=1.0).bool()
            theirs = unet(pictures, t, states, class_labels=vector, attention_mask=mask)[0]
            problem = model.family.draw_problem(model, torch.cat([pictures, image.new_zeros(2, 1, 8, 8)], 1), stream)
    assert torch.allclose(ours, theirs, atol=1e-5)
    steered = import_model(card.change(temperature=True), located.path)
    low = steered.family.predict(steered, problem, condition, torch.tensor([0.1, 0.9]))
    assert torch.allclose(low, model.family.predict(model, problem, condition, None), atol=1e-5)
    low.square().sum().backward()
    assert steered.network.beta_embedder.layers[-1].weight.grad.abs().max() > 0  # it can learn


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_gft_and_pictures(name: str, karlo: Path) -> None:
    model = model_of(card_of(name, karlo, temperature=True), karlo)
    pictures = SampleGenerator([3, 4]).uniform(3, 16, 16) * 2 - 1
    latents = model.require_tokenizer().encode(pictures)
    assert latents.shape == ((2, 16, 1, 1) if name == "karlo-prior" else (2, 4, 8, 8))
    optimizer = torch.optim.SGD(model.network.parameters(), 0.01)
    losses = []
    for _ in range(3):
        torch.manual_seed(0)
        stream = SampleGenerator.for_samples("loss", 0, range(2))
        problem = model.family.draw_problem(model, latents, stream)
        loss = GFT(GFTOptions()).loss(model, problem, model.encode_condition(PROMPTS), stream).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    images = model.sample(PROMPTS, beta=0.5, **sampled(name, karlo))
    assert images.shape == (2, 3, 16, 16) and images.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_is_kept(name: str, karlo: Path) -> None:
    subject = Subject(card_of(name, karlo, sampler=sampled(name, karlo)))
    findings = [examine(subject, check) for check in CHECKS if not check.slow and check.name != "costs"]
    assert [finding.explanation() for finding in findings if not finding.holds] == []


def trained_at_random(name: str, folder: Path, **changes: Any) -> Model:
    """A stage with weights unlike the pipeline's, its variance and the input of its temperature among them."""
    model = model_of(card_of(name, folder, temperature=True, **changes), folder)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_both_stages_in_the_stock_pipeline(karlo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both scales of guidance at 1 it draws of the same noise what gftzoo draws at the temperatures."""
    prior, first, both = trained_at_random("karlo-prior", karlo), tmp_path / "first", tmp_path / "both"
    with pytest.raises(UsageError, match=r"has a temperature input, which no pipeline has.*--beta 0\.25"):
        export(prior, "diffusers", tmp_path / "refused")
    prior.save(tmp_path / "prior")
    export(prior.bake(0.25), "diffusers", first)
    decoder = trained_at_random("karlo-decoder", karlo)
    settings = {"steps": 3, "prior": str(tmp_path / "prior"), "prior_steps": 3, "prior_beta": 0.25}
    wanted = decoder.sample(PROMPTS, beta=0.125, **settings)
    assert (wanted - decoder.sample(PROMPTS, beta=1.0, **settings)).abs().max() > 1e-2
    decoder.save(tmp_path / "decoder")
    export(load(tmp_path / "decoder", tokenizer_path=str(first)).bake(0.125), "diffusers", both)

    seeds = image_seeds(0, range(len(PROMPTS)))
    streams = {
        (16,): SampleGenerator([seed_for("prior", seed) for seed in seeds]),
        (3, 8, 8): SampleGenerator(seeds), (3, 16, 16): SampleGenerator([0] * len(PROMPTS)),
    }  # fmt: skip
    for module in (scheduling_unclip, pipeline_unclip):
        monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: streams[tuple(shape[1:])].normal(*shape[1:]))
    stock = diffusers.DiffusionPipeline.from_pretrained(both, local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    found = stock(
        PROMPTS, prior_num_inference_steps=3, decoder_num_inference_steps=3, prior_guidance_scale=1.0,
        decoder_guidance_scale=1.0, output_type="np",
    ).images  # fmt: skip
    assert (wanted - torch.from_numpy(found).permute(0, 3, 1, 2)).abs().max() < 1e-3


def test_what_is_refused(karlo: Path, tmp_path: Path) -> None:
    card = card_of("karlo-decoder", karlo)
    with pytest.raises(UsageError, match="holds no decoder; a pipeline of Karlo has the folders decoder, text_proj"):
        locate(card, tmp_path)
    with pytest.raises(UsageError, match="gives 16 features and karlo-prior reads 24"):
        model_of(card_of("karlo-prior", karlo, network={"clip_width": 24}), karlo).encode_condition(PROMPTS)
    model = model_of(card, karlo)
    settings = {**sampled("karlo-decoder", karlo), "prior": str(karlo / "ours")}
    with pytest.raises(UsageError, match="of the family unclip-decoder and here one of unclip-prior is needed"):
        model.sample_latents(PROMPTS, model.guidance(), [1, 2], **settings)
