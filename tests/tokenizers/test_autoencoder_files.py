"""Stable Diffusion's autoencoder from one file, under the names of latent diffusion or of diffusers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.errors import GftzooError
from gftzoo.layers.autoencoder import AutoencoderOptions
from gftzoo.tokenizers import ConvolutionalTokenizer, core

SPEC = TokenizerSpec(id="tiny-vae", kind="autoencoder-kl", channels=4, downsample=2)


class Official(ConvolutionalTokenizer):
    """The autoencoder with the module names of latent diffusion."""

    encode = decode = None  # type: ignore[assignment]

    def __init__(self) -> None:
        options = AutoencoderOptions(width=32, multipliers=(1, 2), blocks=1)
        super().__init__(SPEC, options, 4, moments=2, attention=((), ()))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"block_out_channels": (32, 64), "layers_per_block": 1}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    monkeypatch.setattr(core, "STABLE_DIFFUSION", {**sizes, **kinds})


@pytest.mark.usefixtures("small")
def test_files_of_latent_diffusion(tmp_path: Path) -> None:
    torch.manual_seed(0)
    official, images = Official().eval(), torch.rand(2, 3, 8, 8) * 2 - 1
    state, ldm = {**official.state_dict(), "loss.logvar": torch.zeros(())}, tmp_path / "model.ckpt"
    torch.save(state, tmp_path / "autoencoder_kl_ema.pth")
    whole = {f"first_stage_model.{key}": value for key, value in state.items()}
    torch.save({"state_dict": {**whole, "model.diffusion_model.out.0.weight": torch.zeros(2)}}, ldm)
    mean, log_variance = official.map_of(images).chunk(2, 1)
    for path in (tmp_path / "autoencoder_kl_ema.pth", ldm):
        tokenizer = core.build_core_tokenizer(SPEC, str(path))
        torch.testing.assert_close(tokenizer.moments(images), torch.cat([mean, (0.5 * log_variance).exp()], 1))
        torch.testing.assert_close(tokenizer.decode(mean), official.images_of(mean))
    torch.save(tokenizer.autoencoder.state_dict(), tmp_path / "diffusers.pt")
    again = core.build_core_tokenizer(SPEC, str(tmp_path / "diffusers.pt"))
    assert torch.equal(again.decode(mean), tokenizer.decode(mean))


@pytest.mark.usefixtures("small")
def test_another_autoencoder_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.conv_in.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(GftzooError, match=r"tiny-vae.*does not fit"):
        core.build_core_tokenizer(SPEC, str(tmp_path / "other.pt"))
