"""One way to decode: orientation, transparency, depth, size and damage, in sources and in what is scored."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gftzoo.data import open_source
from gftzoo.data.picture import UnreadableError, center_crop, pixels_of, read_header, whole_picture
from gftzoo.data.preflight import preflight
from gftzoo.data.settings import Decoding, split_settings, with_settings
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.images import file_batches, image_count, left_out_of

WHITE = (255, 255, 255)
RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
RAMP_AT_8 = [(8 * i + 3.5) / 63 * 255 for i in range(8)]


def png(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def folder_with(root: Path, name: str, content: bytes) -> Path:
    (root / "a").mkdir(parents=True, exist_ok=True)
    (root / "a" / name).write_bytes(content)
    return root


def everywhere(root: Path, side: int, settings: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """The first picture as a source gives it, and as it is scored."""
    source = open_source(f"imagefolder:{root}{settings}")
    return source.image(0, side, 3), next(file_batches(Path(f"{root}{settings}")))[0][0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_pictures_are_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    if kind == "AVIF" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16] = 255
    upright[:8, :8] = 100  # no symmetry is left
    exif = Image.Exif()
    exif[0x0112] = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)  # the inverse of a turn
    stored = ImageOps.exif_transpose(Image.open(io.BytesIO(png(Image.fromarray(upright), "PNG", exif=exif))))
    exif[0x0112] = orientation
    folder_with(tmp_path, f"x.{kind.lower()}", png(stored.convert("RGB"), kind, exif=exif, quality=95))
    for image in everywhere(tmp_path, 32):
        values = image[0].float()
        assert values[1:6, 12:].mean() > 250 and values[20:].mean() < 5 and 90 < values[1:6, 1:6].mean() < 110


def transparent(kind: str, hidden: Any) -> bytes:
    """A white square on nothing, with hidden colours."""
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[..., :3] = np.random.default_rng(0).integers(0, 256, (32, 32, 3)) if hidden is None else hidden
    rgba[8:24, 8:24] = 255
    picture = Image.fromarray(rgba)
    if kind == "LA":
        return png(picture.convert("LA"))
    if kind == "P":
        palette = Image.fromarray(np.pad(np.ones((16, 16), np.uint8), 8))
        palette.putpalette([*(hidden or (9, 90, 200)), 255, 255, 255])
        return png(palette, transparency=0)
    if kind == "GIF":
        palette = Image.fromarray(np.pad(np.ones((16, 16), np.uint8), 8))
        palette.putpalette([*(hidden or (9, 90, 200)), 255, 255, 255])
        return png(palette, "GIF", transparency=0)
    if kind == "WEBP":
        return png(picture, "WEBP", lossless=True, exact=True)
    if kind == "RGB":
        flat = np.full((32, 32, 3), hidden or (9, 90, 200), np.uint8)
        flat[8:24, 8:24] = 255
        return png(Image.fromarray(flat), transparency=tuple(hidden or (9, 90, 200)))
    if kind == "L":
        return png(Image.fromarray(np.pad(np.full((16, 16), 255, np.uint8), 8)), transparency=0)
    if kind == "I;16":
        return png(Image.fromarray(np.pad(np.full((16, 16), 65535, np.uint16), 8)), transparency=0)
    return png(picture, kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "LA", "P", "GIF", "RGB", "L", "I;16"])
def test_what_is_transparent_shows_the_background(kind: str, tmp_path: Path) -> None:
    seen = []
    for number, hidden in enumerate([(0, 0, 0), (0, 255, 0), None]):
        folder = folder_with(tmp_path / str(number), "x", transparent(kind, hidden))
        for image in everywhere(folder, 32):
            assert tuple(image[:, 0, 0].tolist()) == WHITE
            seen.append(image)
        image, scored = everywhere(folder, 32, "#background=202020")
        assert image[:, 0, 0].tolist() == scored[:, 0, 0].tolist() == [32, 32, 32]
        assert tuple(image[:, 16, 16].tolist()) == WHITE
    assert all(torch.equal(seen[0], image) for image in seen)


def tiff(values: np.ndarray, **tags: int) -> bytes:
    numbers = {"photometric": 262}
    return png(Image.fromarray(values), "TIFF", tiffinfo={numbers[name]: value for name, value in tags.items()})


DEEP: dict[str, tuple[bytes, str]] = {
    "png": (png(Image.fromarray(RAMP)), ""),
    "tiff": (tiff(RAMP), ""),
    "pgm": (b"P5 64 64 65535\n" + RAMP.astype(">u2").tobytes(), ""),
    "pgm of 10 bits": (b"P5 64 64 1023\n" + (RAMP // 64).astype(">u2").tobytes(), ""),
    "tiff, black last": (tiff(65535 - RAMP, photometric=0), ""),
    "12 bits in 16": (png(Image.fromarray((RAMP // 16).astype(np.uint16))), "#range=0:4095"),
    "32 bits": (tiff(RAMP.astype(np.int32)), "#range=0:65535"),
    "floats": (tiff((RAMP / 65535).astype(np.float32)), "#range=0:1"),
    "floats around 0": (tiff((RAMP / 65535 * 2 - 1).astype(np.float32)), "#range=-1:1"),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_pictures_are_scaled_by_their_range(name: str, tmp_path: Path) -> None:
    content, settings = DEEP[name]
    tolerance = 1.25 if "bits" in name else 1  # a level is cut, of a ramp whose steps were coarser already
    folder_with(tmp_path, "x", content)
    source = open_source(f"imagefolder:{tmp_path}{settings}")
    for channels in (1, 3):
        row = source.image(0, 8, channels)[0, 0]
        np.testing.assert_allclose(row, RAMP_AT_8, atol=tolerance)
    scored = next(file_batches(Path(f"{tmp_path}{settings}")))[0][0, 0, 0]
    np.testing.assert_allclose(scored, np.linspace(0, 255, 64), atol=tolerance)
    assert "grey images" in preflight(source, 8).sentence()


@pytest.mark.parametrize("name", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_ramp_of_16_bits_is_that_of_8(name: str, channels: int) -> None:
    """Within a level of a ramp's middles, as a picture is brought to its size before it is cut to 8 bits."""
    row = pixels_of(DEEP[name][0], 8, channels)[0, 0]
    np.testing.assert_allclose(row, [15, 47, 79, 111, 143, 175, 207, 239], atol=1)


def test_values_of_8_bits_in_16_stay_what_they_are() -> None:
    """At any size, of every level; and the hidden colour of a transparent one shows the background."""
    for level in range(256):
        content = png(Image.fromarray(np.full((24, 24), level * 257, np.uint16)))
        assert pixels_of(content, 7, 3).unique().tolist() == [level]
    content = png(Image.fromarray(np.array([[0, 65535]], np.uint16)), transparency=0)
    seen = whole_picture(content, 3, Decoding(background=(10, 20, 30)))
    assert [seen.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        (tiff(RAMP.astype(np.int32)), "", r"32-bit whole numbers \(mode I\).*#range=LOW:HIGH"),
        (tiff((RAMP / 65535).astype(np.float32)), "", r"floating-point numbers \(mode F\).*#range=LOW:HIGH"),
    ],
)
def test_values_without_a_range_are_refused_by_name(content: bytes, settings: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(GftzooError, match=words):
        open_source(f"imagefolder:{folder_with(tmp_path, 'x', content)}{settings}")
    with pytest.raises(GftzooError, match=words):
        list(file_batches(tmp_path))


@pytest.mark.parametrize("values", [RAMP, np.full((8, 8), np.nan, np.float32)])
def test_values_outside_their_range_are_not_clipped(values: np.ndarray) -> None:
    with pytest.raises(UnreadableError, match=r"its values go from .* outside the range 0:4095"):
        pixels_of(tiff(values), 8, 1, Decoding(range=(0, 4095)))


def two_frames(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    return png(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_a_film_is_its_first_frame(kind: str) -> None:
    red, _, blue = pixels_of(two_frames(kind), 8, 3)[:, 4, 4].tolist()
    assert red > 240 and blue < 15


def test_ink_becomes_light() -> None:
    picture = Image.new("CMYK", (20, 20), (0, 255, 255, 0))  # red
    for kind in ("JPEG", "TIFF"):
        red, green, _ = pixels_of(png(picture, kind), 8, 3)[:, 4, 4].tolist()
        assert red > 240 and green < 15


def old_pixels(picture: Image.Image, side: int) -> np.ndarray:
    return np.array(center_crop(picture.convert("RGB"), side))


@pytest.mark.parametrize("size", [(31, 20), (64, 64), (300, 97), (40, 640), (641, 40), (7, 5)])
def test_ordinary_pictures_keep_every_bit_of_their_crop(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    new = pixels_of(png(Image.fromarray(pixels)), 16, 3).permute(1, 2, 0).numpy()
    if max(size) <= 16 * min(size):
        assert (new == old_pixels(Image.fromarray(pixels), 16)).all()
    else:  # cut before it is scaled: the same up to a pixel's part
        assert abs(new.astype(int) - old_pixels(Image.fromarray(pixels), 16)).mean() < 20


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_thread_of_a_picture_is_cut_before_it_is_scaled(size: tuple[int, int], monkeypatch) -> None:
    largest: list[int] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, to: tuple[int, int], *rest: Any) -> Image.Image:
        largest.append(to[0] * to[1])
        return resize(self, to, *rest)

    monkeypatch.setattr(Image.Image, "resize", watched)
    assert pixels_of(png(Image.new("RGB", size, "red")), 256, 3).shape == (3, 256, 256)
    assert max(largest) <= 17 * 256 * 256


def test_a_huge_scan_is_counted_and_named(tmp_path: Path) -> None:
    folder_with(tmp_path, "0.png", png(Image.new("L", (16, 16), 80)))
    folder_with(tmp_path, "huge.png", png(Image.new("1", (20_000, 20_000))))
    source = open_source(f"imagefolder:{tmp_path}")
    assert len(source.problems) == 1 and "huge.png" in source.problems[0] and "#pixels=" in source.problems[0]
    assert len(source) == 1 and source.image(0, 8, 1).unique().tolist() == [80]
    with pytest.raises(GftzooError, match=r"huge.png' is damaged or no image \(it has .* pixels"):
        list(file_batches(tmp_path))
    assert not open_source(f"imagefolder:{tmp_path}#pixels=400000000").problems


def test_the_largest_picture_is_a_setting() -> None:
    content = png(Image.new("L", (100, 100)))
    assert read_header(content).width == 100
    with pytest.raises(UnreadableError, match="it has 100x100 pixels"):
        read_header(content, Decoding(pixels=9_999))


def headless(kind: str, keep: int) -> bytes:
    return png(Image.new("RGB", (40, 40), "red"), kind)[:keep]


DAMAGED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"no picture at all",
    "png without data": lambda: headless("PNG", 60),
    "jpeg without data": lambda: headless("JPEG", 300),
    "tiff without data": lambda: headless("TIFF", 100),
    "gif without data": lambda: headless("GIF", 20),
    "webp without data": lambda: headless("WEBP", 40),
    "bmp without data": lambda: headless("BMP", 40),
    "png of no size": lambda: png(Image.new("RGB", (4, 4))).replace(b"\0\0\0\4", b"\0\0\0\0"),
    "a program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line_and_spoils_nothing(name: str, tmp_path: Path) -> None:
    folder_with(tmp_path, "0.png", png(Image.new("L", (16, 16), 80)))
    folder_with(tmp_path, "1.png", DAMAGED[name]())
    source = open_source(f"imagefolder:{tmp_path}")
    assert len(source) == 1 and source.image(0, 8, 1).unique().tolist() == [80]
    assert len(source.problems) == 1 and "1.png cannot be read (" in source.problems[0]
    assert source.problems[0].isprintable()
    with pytest.raises(UnreadableError):
        whole_picture(tmp_path / "a" / "1.png")


def test_no_program_is_run_for_a_picture(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    for name in ("x.eps", "x.ps", "x"):
        (tmp_path / name).write_bytes(DAMAGED["a program"]())
    with pytest.raises(GftzooError, match="holds no pictures"):
        open_source(f"imagefolder:{tmp_path}")


def test_whatever_the_decoder_raises_is_an_unreadable_picture(monkeypatch) -> None:
    for kind in (MemoryError, RecursionError, ZeroDivisionError, AttributeError, Image.DecompressionBombError):
        with monkeypatch.context() as patch:
            patch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self, kind=kind: (_ for _ in ()).throw(kind()))
            with pytest.raises(UnreadableError):
                pixels_of(png(Image.new("L", (4, 4))), 4, 1)


def test_warnings_about_pictures_stay_inside(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 8))
    palette.putpalette([1, 2, 3, 4, 5, 6])
    content = png(palette, transparency=b"\0\x80")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for channels in (1, 3):
            pixels_of(content, 8, channels)
        read_header(png(Image.new("1", (10_000, 9_500))))  # above Pillow's limit for a warning
    assert not seen


@pytest.mark.parametrize("name", ["a.jfif", "b.JPE", "c.AVIF", "d", "e.webp", "f.TIF", "g.qoi", "h.jp2", "i.ico"])
def test_every_suffix_of_a_picture_is_taken(name: str, tmp_path: Path) -> None:
    kind = {"jfif": "JPEG", "JPE": "JPEG", "TIF": "TIFF", "jp2": "JPEG2000"}.get(name.partition(".")[2])
    kind = kind or name.partition(".")[2].upper() or "PNG"
    folder_with(tmp_path, name, png(Image.new("RGB", (32, 32), "red"), kind))
    assert len(open_source(f"imagefolder:{tmp_path}")) == image_count(tmp_path) == 1
    assert everywhere(tmp_path, 8)[0][0].float().mean() > 240


def test_what_is_not_taken_is_counted_with_an_example(tmp_path: Path) -> None:
    folder_with(tmp_path, "0.png", png(Image.new("RGB", (8, 8))))
    for name in ("x.heic", "y.heic", "notes.txt", "LICENSE", ".DS_Store", "._0.png"):
        (tmp_path / "a" / name).write_bytes(b"no picture at all")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    said = "\n".join(open_source(f"imagefolder:{tmp_path}").left_out)
    assert "Left out: 3 files with a suffix of no picture that can be read, e.g. a/notes.txt" in said
    assert "Left out: 1 files without a suffix whose content is no picture, e.g. a/LICENSE" in said
    assert "Left out: 2 hidden files, e.g. a/.DS_Store" in said
    assert "Left out: 1 names without a file behind them, e.g. a/gone.png" in said
    assert left_out_of(tmp_path) == open_source(f"imagefolder:{tmp_path}").left_out
    assert said in preflight(open_source(f"imagefolder:{tmp_path}"), 8).sentence().replace(".\n", "\n")


def test_names_that_are_no_text_are_only_names(tmp_path: Path) -> None:
    for name in (b"caf\xe9", "n\u202eame", "two\nlines"):
        folder = tmp_path / (name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name)
        folder.mkdir()
        (folder / folder.name).with_suffix(".png").write_bytes(png(Image.new("RGB", (8, 8))))
    source = open_source(f"imagefolder:{tmp_path}")
    assert len(source) == 3 and len(set(source.class_names)) == 3
    assert all(name.isprintable() and name.encode() for name in source.class_names)
    with pytest.raises(GftzooError, match="there is no folder"):
        open_source(f"imagefolder:{'x' * 300}")


def test_a_class_that_cannot_be_listed_is_not_dropped(tmp_path: Path, monkeypatch) -> None:
    import os

    for name in ("cat", "dog"):
        folder_with(tmp_path / name, "0.png", png(Image.new("RGB", (8, 8))))
    really = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr("os.scandir", scandir)
    closed = "dog"
    with pytest.raises(GftzooError, match=r"dog' cannot be read \(Permission denied\)"):
        open_source(f"imagefolder:{tmp_path}")
    closed = "dog/a"
    (tmp_path / "dog" / "1.png").write_bytes(png(Image.new("RGB", (8, 8))))
    assert "Left out: 1 folders that cannot be read, e.g. dog/a" in open_source(f"imagefolder:{tmp_path}").left_out


def test_settings_stand_behind_a_name() -> None:
    name = with_settings("hf:org/data#test", background="ff8000", pixels=None, outside="yes")
    plain, decoding = split_settings(name)
    assert plain == "hf:org/data#test" and decoding == Decoding(background=(255, 128, 0), outside=True)
    assert split_settings("imagefolder:a#b")[0] == "imagefolder:a#b"
    for wrong in ("background=nothing", "pixels=0", "range=3:1", "range=1"):
        with pytest.raises(UsageError, match="is not valid"):
            split_settings(f"imagefolder:x#{wrong}")
    with pytest.raises(UsageError, match="data 'digits' is decoded already and takes no #background=black"):
        open_source("digits#background=black")


def test_a_name_is_recorded_in_full(tmp_path: Path, monkeypatch) -> None:
    from gftzoo.engine import resolve

    folder_with(tmp_path / "data", "0.png", png(Image.new("RGB", (8, 8))))
    monkeypatch.chdir(tmp_path)
    config = resolve("dit-nano", data="imagefolder:data#background=black", steps=1)
    assert config.data == config.card.data == f"imagefolder:{tmp_path}/data#background=black"
    with pytest.raises(UsageError, match="unknown data ''"):
        resolve("dit-nano", data="", steps=1)


def test_deep_pictures_are_scaled_in_strips(monkeypatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (50, 7), dtype=np.uint16)
    whole = np.array(whole_picture(png(Image.fromarray(values)), 1))
    assert (whole == values // 257).all()  # cut, not rounded
    for strip in (1, 7, 20):  # floats of a damaged header's fifty million values once took gigabytes
        monkeypatch.setattr("gftzoo.data.picture.STRIP", strip)
        assert (np.array(whole_picture(png(Image.fromarray(values)), 1)) == whole).all()
