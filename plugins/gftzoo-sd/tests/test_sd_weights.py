"""Every layout in which Stable Diffusion weights come loads, and gives the network they were saved from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_sd.unet import build_unet
from safetensors.torch import save_file
from sd_tiny import PROMPTS, TINY, near, tiny_card, tiny_model
from torch import Tensor

import gftzoo
from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Temperature
from gftzoo.errors import GftzooError, UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model, locate
from gftzoo.model import Model

COND_PROJ = "time_embedding.cond_proj.weight"


def predict(model: Model, beta: float | None) -> Tensor:
    latents = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    problem = model.family.draw_problem(model, latents, SampleGenerator([1, 2, 3]))
    temperature = None if beta is None else torch.full((3,), beta)
    with torch.no_grad():
        return model.family.predict(model, problem, model.encode_condition(PROMPTS), temperature)


def load(card: ModelCard, weights: Path, *, temperature: bool | None = None, **network: Any) -> Model:
    found = locate(card, weights)
    steered = found.card.temperature if temperature is None else temperature
    return import_model(card.change(temperature=steered, network={**TINY, **network}), found.path)


def test_a_unet_folder_and_a_pipeline_folder(tmp_path: Path, plain: Model) -> None:
    plain.network.save_pretrained(tmp_path / "pipeline" / "unet")
    for folder in (tmp_path / "pipeline" / "unet", tmp_path / "pipeline"):
        assert torch.equal(predict(load(plain.card, folder), None), predict(plain, None))


def test_pickled_and_half_precision_weights(tmp_path: Path, plain: Model) -> None:
    plain.network.save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "diffusion_pytorch_model.bin").is_file()
    assert torch.equal(predict(load(plain.card, tmp_path), None), predict(plain, None))
    half = {key: value.half() for key, value in plain.network.state_dict().items()}
    (tmp_path / "diffusion_pytorch_model.bin").unlink()
    save_file(half, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    loaded = load(plain.card, tmp_path)
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
    assert near(predict(loaded, None), predict(plain, None), 1e-2)


def test_the_released_layout_of_gft(tmp_path: Path, steered: Model) -> None:
    """A UNet's folder whose config.json has time_cond_proj_dim 512."""
    steered.network.save_pretrained(tmp_path / "SD1.5-GF-finetune")
    loaded = load(steered.card, tmp_path / "SD1.5-GF-finetune")
    assert loaded.card.temperature
    assert torch.equal(predict(loaded, 0.3), predict(steered, 0.3))


def test_a_training_checkpoint_of_the_released_code(tmp_path: Path, steered: Model, plain: Model) -> None:
    tiny_model(temperature=True).network.save_pretrained(tmp_path / "checkpoint-10" / "unet")
    average = tiny_model(temperature=True)
    with torch.no_grad():
        average.network.conv_out.bias.add_(1.0)
    average.network.save_pretrained(tmp_path / "checkpoint-10" / "ema_unet")
    assert torch.equal(predict(load(steered.card, tmp_path / "checkpoint-10"), 0.3), predict(average, 0.3))
    assert torch.equal(predict(load(steered.card, tmp_path / "checkpoint-10" / "unet"), 0.3), predict(steered, 0.3))


def average_of(model: Model) -> Model:
    """Another model, whose every weight is one more."""
    other = tiny_model(temperature=False)
    other.network.load_state_dict({key: value + 1 for key, value in model.network.state_dict().items()})
    return other


def first(model: Model) -> Tensor:
    return next(iter(model.network.state_dict().values()))


@pytest.mark.parametrize("safe", [True, False])
def test_shards_and_variants_are_followed(tmp_path: Path, plain: Model, safe: bool) -> None:
    average = average_of(plain)
    plain.network.save_pretrained(tmp_path / "unet", max_shard_size="100KB", safe_serialization=safe)
    one = next((tmp_path / "unet").glob("*-00002-of-*"))
    for given in (tmp_path, tmp_path / "unet", one):
        assert torch.equal(first(load(plain.card, given)), first(plain))
    average.network.save_pretrained(tmp_path / "ema_unet", max_shard_size="100KB", variant="fp16")
    for entry, model in ((None, average), ("ema", average), ("raw", plain)):
        path = locate(plain.card, tmp_path, entry).path
        read = import_model(plain.card, path, entry)
        assert torch.equal(first(read), first(model)), entry
        assert read.provenance["entry"] == ("ema" if entry != "raw" else "bare")
    for shard in (tmp_path / "ema_unet").glob("*-of-*"):
        shard.unlink()
    with pytest.raises(GftzooError, match="not beside it; fetch all"):  # and raw weights are not taken instead
        locate(plain.card, tmp_path)


def test_raw_weights_as_a_variant(tmp_path: Path, plain: Model) -> None:
    average = average_of(plain)
    average.network.save_pretrained(tmp_path)
    plain.network.save_pretrained(tmp_path, variant="non_ema")
    for entry, model in ((None, average), ("raw", plain)):
        path = locate(plain.card, tmp_path, entry).path
        assert torch.equal(first(import_model(plain.card, path, entry)), first(model))


def test_the_average_in_a_single_file_of_the_original_code(tmp_path: Path, plain: Model) -> None:
    average = average_of(plain)
    raw, ema = to_original(plain.network.state_dict()), to_original(average.network.state_dict())
    flat = {"model_ema." + key.removeprefix("model.").replace(".", ""): value for key, value in ema.items()}
    flat |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(470000)}
    others = {"first_stage_model.quant_conv.weight": torch.zeros(1)}
    save_file({**raw, **flat, **others}, tmp_path / "v1.safetensors")
    torch.save({"state_dict": {**raw, **flat, **others}, "global_step": 3}, tmp_path / "v1.ckpt")
    torch.save({**raw, **flat}, tmp_path / "unet-only.ckpt")
    for file in ("v1.safetensors", "v1.ckpt", "unet-only.ckpt"):
        for entry, model in ((None, average), ("ema", average), ("raw", plain)):
            read = import_model(plain.card, tmp_path / file, entry)  # type: ignore[arg-type]
            assert torch.equal(first(read), first(model)) and read.provenance["entry"] == (entry or "ema")


def test_a_plain_network_gets_a_temperature_without_effect(tmp_path: Path, plain: Model) -> None:
    plain.network.save_pretrained(tmp_path)
    loaded = load(plain.card, tmp_path, temperature=True)
    assert loaded.network.state_dict()[COND_PROJ].abs().max() == 0
    for beta in (None, 1.0, 0.2):
        assert torch.equal(predict(loaded, beta), predict(plain, None))


def to_original(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tiny UNet's tensors under the names of the original code."""
    places = {
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "down_blocks.0.resnets.0": "input_blocks.1.0", "down_blocks.0.attentions.0": "input_blocks.1.1",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op", "down_blocks.1.resnets.0": "input_blocks.3.0",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2", "up_blocks.0.resnets.0": "output_blocks.0.0",
        "up_blocks.0.resnets.1": "output_blocks.1.0", "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
        "up_blocks.1.resnets.0": "output_blocks.2.0", "up_blocks.1.attentions.0": "output_blocks.2.1",
        "up_blocks.1.resnets.1": "output_blocks.3.0", "up_blocks.1.attentions.1": "output_blocks.3.1",
    }  # fmt: skip
    inside = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
        "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    renamed = {}
    for key, value in tensors.items():
        place = next(name for name in sorted(places, key=len, reverse=True) if key.startswith(f"{name}."))
        rest = key.removeprefix(f"{place}.")
        if "resnets" in place:
            layer, _, kind = rest.rpartition(".")
            rest = f"{inside[layer]}.{kind}"
        renamed[f"model.diffusion_model.{places[place]}.{rest}"] = value
    assert len(renamed) == len(tensors)
    return renamed


def test_a_single_file_of_the_original_code(tmp_path: Path, plain: Model) -> None:
    file = tmp_path / "v1-5.safetensors"
    others = {"first_stage_model.quant_conv.weight": torch.zeros(1), "model_ema.decay": torch.zeros(1)}
    save_file({**to_original(plain.network.state_dict()), **others}, file)
    assert torch.equal(predict(load(plain.card, file), None), predict(plain, None))


def test_a_folder_of_another_network_is_refused(tmp_path: Path, plain: Model) -> None:
    with pytest.raises(UsageError, match="holds no UNet"):
        locate(plain.card, tmp_path)
    other = build_unet(tiny_card(temperature=False, heads=4))  # the same tensors, read by other heads
    other.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="attention_head_dim is 4 and not 2"):
        locate(plain.card, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(GftzooError, match=r"config.json.*damaged"):
        locate(plain.card, tmp_path)


def test_saved_models_come_back(tmp_path: Path) -> None:
    model = tiny_model(temperature=True)
    model.save(tmp_path)
    again = gftzoo.load(tmp_path)
    draw = [m.sample_latents(PROMPTS, Temperature(0.5), [0, 1, 2], steps=3) for m in (model, again)]
    assert torch.equal(*draw)
