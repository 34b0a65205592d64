"""Sheets of pictures: large enough to be seen, and labelled with what was asked for and how it is drawn again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nano import nano_card
from PIL import Image

from gftzoo import pictures
from gftzoo.captions import about_image, caption, steered
from gftzoo.contract.guidance import ClassifierFree, Temperature, Unguided


@pytest.mark.parametrize("side", [1, 8, 100, 128, 129, 256])
def test_a_picture_is_shown_at_128_pixels_or_more_by_a_whole_factor(side: int) -> None:
    large = pictures.side_on_sheet(side)
    assert (large >= 128 and large % side == 0 and large - side < 128) or side >= 128 == large - side


def test_a_sheet_shows_every_picture_whole() -> None:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sheet = np.asarray(pictures.grid(images, 3))
    for index, image in enumerate(pictures.to_uint8(images).numpy()):
        top, left = (pictures.GAP + index // 3 * (128 + pictures.GAP), pictures.GAP + index % 3 * (128 + pictures.GAP))
        shown = sheet[top : top + 128, left : left + 128]
        assert np.array_equal(shown, image.repeat(16, 0).repeat(16, 1))


def ink(picture: Image.Image) -> int:
    return int((np.asarray(picture.convert("L")) < 128).sum())


def test_captions_title_and_labels_are_written() -> None:
    white = torch.ones(2, 3, 128, 128)
    bare = pictures.grid(white, 2)
    titled = pictures.grid(white, 2, title="of a run")
    below = pictures.grid(white, 2, ["three\nseed 0 #0", "seven\nseed 0 #1"])
    assert ink(bare) == 0 and ink(titled) > 50 and ink(below) > 100
    assert titled.height > bare.height and below.height > bare.height and below.width == bare.width
    rows = pictures.labelled_rows([("beta 1", white), ("beta 0.5", white)], 2, ["three", "seven"])
    assert ink(rows) > 100 and rows.width > bare.width


@pytest.mark.parametrize(
    "text", ["a" * 500, "many words " * 50, "line\n" * 9, "\x1b[31m red", "\ud800 \0", "日本語 emoji 🙂"]
)
def test_a_caption_keeps_to_its_cell_whatever_it_says(text: str) -> None:
    white = torch.ones(1, 3, 128, 128)
    sheet = pictures.grid(white, 1, [f"{text}\nseed 0 #0"], title=text)
    assert sheet.width == 128 + 2 * pictures.GAP and sheet.height < 300


def test_the_last_line_of_a_long_caption_stays() -> None:
    cells = pictures._Cells.of(Image.new("RGB", (128, 128)))
    lines = cells.wrapped("many words " * 50 + "\nbeta 0.5, seed 0 #7")
    assert len(lines) == pictures.MOST_LINES and lines[-1] == "beta 0.5, seed 0 #7" and lines[-2].endswith("…")


def test_text_chunks_come_back(tmp_path) -> None:
    about = {"prompt": "ein Füchslein\n日本 \ud800", "seed": "7"}
    pictures.save(Image.new("RGB", (4, 4)), tmp_path / "a.png", about)
    assert Image.open(tmp_path / "a.png").text == {"prompt": "ein Füchslein\n日本 ?", "seed": "7"}


def test_what_is_said_of_an_image() -> None:
    card = nano_card("dit-nano")
    assert steered(Temperature(0.5)) == "beta 0.5" and steered(Unguided()) == "unguided"
    assert steered(ClassifierFree(2.0, "linear")) == "CFG 2, linear"
    assert caption(card.change(class_names=()), 3, Temperature(0.5), 7, 2) == "class 3\nβ 0.5, seed 7 #2"
    named = card.change(class_names=tuple("abcdefghij"))
    chunks = about_image(named, 3, ClassifierFree(2.0), 7, 2)
    assert chunks == {"class": "d", "cfg": "2", "schedule": "constant", "seed": "7", "index": "2"}
