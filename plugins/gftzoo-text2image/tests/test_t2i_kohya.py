"""Factors under the names of kohya's scripts and ComfyUI: diffusers' own converters give each layer back as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from gftzoo_text2image.exports.kohya import UNETS, original_factors, write_kohya
from gftzoo_text2image.exports.kohya_names import NAMINGS
from gftzoo_text2image.network import build_denoiser, options_of
from gftzoo_text2image.pipelines import PIPELINES
from torch import Tensor, nn

from gftzoo.errors import UsageError
from gftzoo.layers.lora import target_layers
from gftzoo.layers.lora_options import ATTENTION
from gftzoo.model import Model
from gftzoo.zoo import get_card

RANK = 2
BLOCKS = r"(?:(?:single_)?transformer_blocks|layers|noise_refiner|context_refiner)\..*"
# The converters have the widths of FLUX.1 and Lumina 2 written into them, which are the defaults of their classes.
PUBLISHED = {
    "flux": ("FluxPipeline", {"num_layers": 1, "num_single_layers": 1}),
    "lumina": ("Lumina2Pipeline", {"num_layers": 1, "num_refiner_layers": 1}),
}


@pytest.fixture
def denoiser(tiny: Callable[[str], Path]) -> Callable[[str], tuple[str, nn.Module]]:
    """The pipeline's class and its network without numbers: one of `PUBLISHED`, or a tiny one."""

    def built(name: str) -> tuple[str, nn.Module]:
        card = None if name in PUBLISHED else get_card(f"diffusers:{tiny(name)}")
        with torch.device("meta"):
            if card is not None:
                return options_of(card).pipeline, build_denoiser(card)
            pipeline, config = PUBLISHED[name]
            return pipeline, getattr(diffusers, PIPELINES[pipeline].network)(**config)

    return built


def random_factors(network: nn.Module, pattern: str) -> dict[str, Tensor]:
    found = {}
    for name in target_layers(network, pattern):
        layer: Any = network.get_submodule(name)
        found[f"{name}.lora_A.weight"] = torch.randn(RANK, layer.in_features)
        found[f"{name}.lora_B.weight"] = torch.randn(layer.out_features, RANK)
    return found


def seen(factors: dict[str, Tensor], layer: str, x: Tensor) -> Tensor:
    """What a layer adds to its output."""
    return factors[f"{layer}.lora_B.weight"] @ (factors[f"{layer}.lora_A.weight"] @ x)


@pytest.mark.parametrize("pattern", [ATTENTION, BLOCKS], ids=["attention", "blocks"])
@pytest.mark.parametrize("name", ["flux", "lumina", "flux2", "qwen", "z-image"])
def test_diffusers_gives_every_layer_back(
    name: str, pattern: str, denoiser: Callable[[str], tuple[str, nn.Module]]
) -> None:
    pipeline, network = denoiser(name)
    torch.manual_seed(0)
    found = random_factors(network, pattern)
    written = original_factors(found, network, NAMINGS[pipeline])
    read = getattr(diffusers, pipeline).lora_state_dict(dict(written))
    read = {key.removeprefix("transformer."): value for key, value in read.items() if key.startswith("transformer.")}
    for layer in {key.partition(".lora_")[0] for key in read}:
        x = torch.randn(network.get_submodule(layer).in_features)  # type: ignore[arg-type]
        added = seen(read, layer, x)
        wanted = seen(found, layer, x) if f"{layer}.lora_A.weight" in found else torch.zeros_like(added)
        assert torch.allclose(added, wanted, atol=1e-3), layer
    assert not found.keys() - read.keys()
    if name == "flux":  # versions of diffusers before 0.42 scale mixed ranks
        assert {len(value) for key, value in read.items() if ".lora_A." in key} == {RANK}


@pytest.mark.parametrize(
    ("name", "stem", "members"),
    [
        ("flux-schnell", "lora_unet_single_blocks_0_linear1", ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")),
        ("lumina2", "diffusion_model.layers.0.attention.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
    ],
)
def test_any_width(
    name: str, stem: str, members: tuple[str, ...], denoiser: Callable[[str], tuple[str, nn.Module]]
) -> None:
    """Programs that take the widths from the network read a fused layer as its parts below each other."""
    pipeline, network = denoiser(name)
    found = random_factors(network, BLOCKS)
    written = original_factors(found, network, NAMINGS[pipeline])
    down, up = (written[key] for key in sorted(key for key in written if key.startswith(f"{stem}.lora_")))
    block = "single_transformer_blocks.0" if name == "flux-schnell" else "layers.0"
    x = torch.randn(down.shape[1])
    assert torch.allclose(up @ (down @ x), torch.cat([seen(found, f"{block}.{m}", x) for m in members]), atol=1e-4)
    assert float(written.get(f"{stem}.alpha", len(down))) == len(down)


def test_what_has_no_such_name(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    network = nn.ModuleDict({"x_embedder": nn.Linear(3, 3)})
    with pytest.raises(
        UsageError, match=r"'x_embedder' was adapted, for which.*--to lora, or.*transformer_blocks\.\*\.attn\.to_q"
    ):
        original_factors(random_factors(network, ".*"), network, NAMINGS["FluxPipeline"])
    card = get_card(f"diffusers:{tiny('sana')}")
    with pytest.raises(UsageError, match=r"no kohya names of a SanaPipeline, which .* is, but of .*; export it --to l"):
        write_kohya(Model.fresh(card), tmp_path)


def test_the_table_of_the_page() -> None:
    page = Path(__file__).parents[3] / "docs" / "families" / "text2image.md"
    rows = [line.strip("|").split("|") for line in page.read_text(encoding="utf-8").splitlines()]
    table = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows if len(row) == 5}
    for name, pipeline in PIPELINES.items():
        lora, kohya, _, single = table[name]
        assert lora.startswith("diffusers'" if pipeline.adapters else "peft's"), name
        assert (kohya != "no") == (name in (*UNETS, *NAMINGS)) and (single == "yes") == (name in UNETS), name
