"""The one way from a picture's file to its pixels, for every source, cache, reference and score.

A file is opened by its content and bounded before it is decoded. Its first frame is turned upright (EXIF), put on the
background where it is transparent, and brought to 8 bits by the range of its values. Whatever goes wrong with a file is
an `UnreadableError` of one line.
"""

from __future__ import annotations

import io
import logging
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gftzoo.data.settings import Decoding
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

# Formats that Pillow names and does not decode itself; of these EPS is a program, which would be run.
NEVER = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Formats without a signature, for which any damaged file may be taken: read only where a suffix says so.
BY_SUFFIX = {"FITS", "GBR", "IM", "IMT", "IPTC", "MCIDAS", "PCD", "PIXAR", "SPIDER", "TGA", "XVTHUMB"}
USUAL = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # tried first
ORIENTATION, BITS, PHOTOMETRIC, MIN_IS_WHITE = 0x0112, 258, 262, 0  # tags of EXIF and TIFF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
TOO_LARGE = "it has {}; #pixels=NUMBER behind the data's name takes up to so many"
STRIP = 2**20  # values scaled together
EXACT = 1e-3  # of a level: a whole one that arithmetic has made a little less stays what it is
LONGEST = 16  # times the short side, of which the middle is all that a crop can show

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its warnings name bytes and not files


class UnreadableError(GftzooError):
    """A picture that cannot be read; the message says why, without its name."""


class Header(NamedTuple):
    """What a file says of its picture before it is decoded."""

    width: int
    height: int
    grey: bool


@cache
def picture_suffixes() -> dict[str, str]:
    """The suffixes of files that can be read, lower case, with their formats."""
    Image.init()
    known = Image.registered_extensions()
    return {suffix: known[suffix] for suffix in sorted(known) if known[suffix] in {*Image.OPEN, "MPO"} - NEVER}


def looks_like_picture(path: Path) -> bool:
    """Whether a file is a picture by its content, be it one that cannot be read."""
    try:
        read_header(path)
    except UnreadableError as error:
        return not isinstance(error.__cause__, UnidentifiedImageError)
    return True


def read_header(content: Path | bytes, decoding: Decoding | None = None) -> Header:
    """Size and colour of a picture that is not decoded; UnreadableError."""
    decoding = decoding or Decoding()
    with undisturbed(decoding), opened(content, decoding) as picture:
        if is_deep(picture) and decoding.range is None:
            own_range(picture.mode, picture.format, {})
        return header_of(picture)


def read_whole(content: Path | bytes, decoding: Decoding) -> Header:
    """The same of a picture that is decoded to its end; UnreadableError. For several threads, inside `undisturbed`."""
    with opened(content, decoding) as picture:
        header = header_of(picture)
        if picture.format in ("JPEG", "MPO"):
            picture.draft(None, (1, 1))  # every byte is read, and an eighth of the side made of it
        flat(upright(picture), 3, decoding)
        return header


def header_of(picture: Image.Image) -> Header:
    """What an opened picture says of itself."""
    return Header(picture.width, picture.height, picture.mode in GREY)


def whole_picture(content: Path | bytes, channels: int = 3, decoding: Decoding | None = None) -> Image.Image:
    """A picture in its own size, RGB or (of 1 channel) L; UnreadableError."""
    decoding = decoding or Decoding()
    with undisturbed(decoding), opened(content, decoding) as picture:
        return flat(upright(picture), channels, decoding)


def pixels_of(content: Path | bytes, resolution: int, channels: int, decoding: Decoding | None = None) -> Tensor:
    """The centre of a picture, uint8, (channels, resolution, resolution); UnreadableError."""
    decoding = decoding or Decoding()
    with undisturbed(decoding), opened(content, decoding) as picture:
        whole = middle(upright(picture))
        crop = partial(center_crop, side=resolution)
        cropped = (
            eight_bits(whole, channels, decoding, crop) if is_deep(whole) else crop(flat(whole, channels, decoding))
        )
        pixels = np.array(cropped)
    return torch.from_numpy(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy())


@contextmanager
def undisturbed(decoding: Decoding) -> Iterator[None]:
    """Warnings about a picture's insides are dropped, and Pillow's own limit is out of the way of a larger one.

    Below it, it stays, for pictures inside of others. Both are of the whole process: threads share one such context.
    """
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if before is not None and decoding.pixels > 2 * before:
            Image.MAX_IMAGE_PIXELS = decoding.pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def one_line(error: Exception) -> str:
    """What an error says, in one printable line; its type where it says nothing."""
    said = next(iter(str(error).split(" at 0x")[0].splitlines()), "")
    return plain(said, 160) or type(error).__name__


@contextmanager
def opened(content: Path | bytes, decoding: Decoding) -> Iterator[Image.Image]:
    """The picture of a file or of its bytes, not yet decoded, of at most so many pixels.

    Whatever is raised inside becomes an UnreadableError.
    """
    suffix = content.suffix.lower() if isinstance(content, Path) else ""
    file: Path | IO[bytes] = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        if isinstance(content, Path) and not stat.S_ISREG(content.stat().st_mode):  # a pipe may never end
            raise UnreadableError("it is not a file")
        with Image.open(file, formats=formats_of(suffix)) as picture:
            count = picture.width * picture.height
            if count > decoding.pixels:
                raise UnreadableError(TOO_LARGE.format(f"{picture.width}x{picture.height} pixels"))
            if not count:
                raise UnreadableError("it has no pixels")
            yield picture
    except GftzooError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError(TOO_LARGE.format("more pixels than are taken")) from error
    except Exception as error:  # Pillow and its codecs raise a dozen types for damaged files
        raise UnreadableError(one_line(error)) from error


@cache
def formats_of(suffix: str) -> tuple[str, ...]:
    """The formats that a file of this suffix may have, in the order in which they are tried."""
    Image.init()
    named = [kind for kind in (picture_suffixes().get(suffix),) if kind in Image.OPEN]
    return tuple(dict.fromkeys([*named, *USUAL, *sorted(set(Image.OPEN) - NEVER - BY_SUFFIX)]))


def upright(picture: Image.Image) -> Image.Image:
    """The first frame, decoded, as EXIF says it is to be held; where EXIF is damaged, as it is stored."""
    picture.load()
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)  # 1 of TIFF, which Pillow turns itself
    except Exception:  # of a header that no viewer minds
        orientation = 1
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    turned.info, turned.format = picture.info, picture.format
    return turned


def middle(picture: Image.Image) -> Image.Image:
    """The middle of a picture that is very long, so that a small one does not become huge on its way to a crop."""
    width, height = picture.size
    longest = LONGEST * min(width, height)
    if max(width, height) <= longest:
        return picture
    left, top = (max(0, side - longest) // 2 for side in (width, height))
    cut = picture.crop((left, top, width - left, height - top))
    cut.info, cut.format = picture.info, picture.format
    return cut


def flat(picture: Image.Image, channels: int, decoding: Decoding) -> Image.Image:
    """An opaque picture with 8 bits a channel, L for 1 channel, else RGB."""
    mode = "L" if channels == 1 else "RGB"
    if is_deep(picture):
        return eight_bits(picture, channels, decoding)
    if picture.has_transparency_data:
        picture = picture.convert("LA") if picture.mode == "La" else picture
        picture = picture.convert("RGBA")
        canvas = Image.new("RGBA", picture.size, (*decoding.background, 255))
        canvas.alpha_composite(picture)
        picture = canvas.convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)


def is_deep(picture: Image.Image) -> bool:
    """Whether its values have more than 8 bits."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;")


def eight_bits(
    picture: Image.Image, channels: int, decoding: Decoding, scale: Callable[[Image.Image], Image.Image] = lambda p: p
) -> Image.Image:
    """A picture of deep grey values as L or RGB; UnreadableError without a range.

    It is brought to its size at its own depth (`scale`) and cut to 8 bits once, at the end: parts of a level are
    dropped, as the low byte is of 16-bit colours.
    """
    grey_HW, hidden = levels(picture, decoding), picture.info.get("transparency")
    planes = [grey_HW]
    if isinstance(hidden, int):
        behind = Image.new("RGB", (1, 1), decoding.background).convert("L" if channels == 1 else "RGB")
        shown_HW = np.asarray(picture) != hidden
        planes = [np.where(shown_HW, grey_HW, np.float32(level)) for level in np.array(behind).flatten()]
    scaled = [np.asarray(scale(Image.fromarray(plane))).clip(0, 255) for plane in planes]  # bicubic overshoots
    bands = [Image.fromarray((plane + EXACT).astype(np.uint8)) for plane in scaled]
    return bands[0] if channels == 1 else Image.merge("RGB", bands * (3 // len(bands)))


def levels(picture: Image.Image, decoding: Decoding) -> NDArray[np.float32]:
    """Deep grey values by their range, float32 (H, W) in [0, 255]; UnreadableError without a range or outside of it."""
    tags = dict(getattr(picture, "tag_v2", {}))
    low, high = decoding.range or own_range(picture.mode, picture.format, tags)
    values = np.asarray(picture)
    grey_HW = np.empty(values.shape, np.float32)
    rows = max(1, STRIP // picture.width)
    for top in range(0, picture.height, rows):  # in strips: doubles of a large picture take gigabytes
        part = (values[top : top + rows].astype(np.float64) - low) / (high - low)
        if not ((part >= 0) & (part <= 1)).all():  # also where there is a NaN
            raise UnreadableError(
                f"its values go from {values.min():g} to {values.max():g}, outside the range {low:g}:{high:g}; name "
                "theirs with #range=LOW:HIGH behind the data's name"
            )
        grey_HW[top : top + rows] = (1 - part if tags.get(PHOTOMETRIC) == MIN_IS_WHITE else part) * 255
    return grey_HW


def own_range(mode: str, kind: str | None, tags: dict[int, object]) -> tuple[float, float]:
    """Black and white of deep grey values, where the format defines them; UnreadableError where it does not."""
    if mode.startswith("I;"):
        bits = tags.get(BITS)
        return 0, 4095 if bits in (12, (12,)) else 65535
    if mode == "I" and kind == "PPM":  # which Pillow scales
        return 0, 65535
    what = "32-bit whole numbers" if mode == "I" else "floating-point numbers"
    raise UnreadableError(
        f"it holds {what} (mode {mode}), which have no black and white of their own; name them with #range=LOW:HIGH "
        "behind the data's name, or save it with 8 or 16 bits"
    )


def center_crop(picture: Image.Image, side: int) -> Image.Image:
    """ADM's crop: halve with a box filter while twice too large, then bicubic to the short side, then the centre."""
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = side / min(picture.size)
    width, height = round(picture.width * scale), round(picture.height * scale)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))
