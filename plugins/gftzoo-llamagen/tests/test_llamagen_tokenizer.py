"""The VQ tokenizer equals the official one; the pixel code is exact."""

from __future__ import annotations

import pytest
import torch
from llamagen_golden import read_golden

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.data import open_source
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.zoo import get_card, get_tokenizer_spec


@pytest.fixture(scope="module")
def golden():
    return read_golden("llamagen-vq")


@pytest.fixture(scope="module")
def vq(golden, tmp_path_factory):
    model = golden.config["model"]
    spec = TokenizerSpec(
        id="tiny",
        kind="vq",
        channels=model["codebook_embed_dim"],
        codebook=model["codebook_size"],
        downsample=2,
        options={"width": 32, "multipliers": (2, 1), "blocks": 1, "z_channels": model["z_channels"]},
    )
    path = tmp_path_factory.mktemp("vq") / "vq_ds16_c2i.pt"
    torch.save({"model": golden.weights}, path)
    return load_family("llamagen").build_tokenizer(spec, str(path))


def test_codes(vq, golden) -> None:
    image = golden.inputs["image"]
    assert torch.equal(vq.encode(image).flatten(), golden.outputs["indices"])
    torch.testing.assert_close(vq.quant_conv(vq.encoder(image)), golden.outputs["pre_quant"], atol=1e-4, rtol=0)
    quantised = vq.quantize.look_up(vq.encode(image), 8)
    torch.testing.assert_close(quantised, golden.outputs["quant"], atol=1e-4, rtol=0)


def test_codes_do_not_depend_on_the_precision(vq, golden) -> None:
    z = golden.outputs["pre_quant"].repeat(1, 1, 4, 4)
    z = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    exact = vq.quantize.nearest(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vq.quantize.nearest(z), exact)


def test_images(vq, golden) -> None:
    decoded = vq.decode(golden.inputs["codes"])
    torch.testing.assert_close(decoded, golden.outputs["decode_code"], atol=1e-4, rtol=0)
    codes = golden.outputs["indices"].view(2, -1)
    torch.testing.assert_close(vq.decode(codes), golden.outputs["decode_of_indices"], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        vq.decode(vq.encode(golden.inputs["image"])), golden.outputs["reconstruction"], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(("name", "parameters", "tensors"), [("vq-16", 71_883_403, 344), ("vq-8", 70_109_835, None)])
def test_full_sizes(name: str, parameters: int, tensors: int | None) -> None:
    from gftzoo_llamagen.tokenizer import VQ

    with torch.device("meta"):
        vq = VQ(get_tokenizer_spec(name))
    assert sum(p.numel() for p in vq.parameters()) == parameters
    assert tensors is None or len(vq.state_dict()) == tensors


def test_vq_does_not_train(vq) -> None:
    assert not any(p.requires_grad for p in vq.parameters())


def test_a_missing_or_foreign_file_is_one_sentence(tmp_path) -> None:
    spec, family = get_tokenizer_spec("vq-16"), load_family("llamagen")
    with pytest.raises(GftzooError, match=r"there is no file or folder"):
        family.build_tokenizer(spec, str(tmp_path / "none.pt"))
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "foreign.pt")
    small = spec.model_copy(update={"options": {"width": 32, "multipliers": (1,), "blocks": 1, "z_channels": 32}})
    with pytest.raises(GftzooError, match=r"foreign\.pt.*does not fit"):
        family.build_tokenizer(small, str(tmp_path / "foreign.pt"))


def test_the_pixel_code_is_exact_on_digits() -> None:
    card, source = get_card("llamagen-nano"), open_source("digits", "train")
    tokenizer = load_family("llamagen").build_tokenizer(card.tokenizer)
    images = source.images(range(len(source)), card.resolution, 1)
    codes = tokenizer.encode(images.float() / 127.5 - 1)
    assert codes.shape == (len(source), 64) and codes.dtype == torch.int64
    assert (codes.min(), codes.max()) == (0, 16)
    decoded = ((tokenizer.decode(codes) + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(decoded, images)


def test_the_pixel_code_of_other_images_stays_in_range() -> None:
    tokenizer = load_family("llamagen").build_tokenizer(get_tokenizer_spec("pixel-code-17"))
    codes = tokenizer.encode(torch.tensor([-1.5, -1.0, 0.0, 2.0]).view(1, 1, 2, 2))
    assert codes.tolist() == [[0, 0, 8, 16]]


def test_a_pixel_code_of_colour_is_refused() -> None:
    spec = TokenizerSpec(id="colour", kind="pixel-code", channels=1, image_channels=3, codebook=17)
    with pytest.raises(UsageError, match=r"image_channels=3"):
        load_family("llamagen").build_tokenizer(spec)
