"""Pictures beside good ones in an image folder, and on their own in a folder that is scored."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fuzzing.target import SilentChangeError, Target
from gftzoo.data import open_source
from gftzoo.data.picture import UnreadableError, whole_picture

SIDE = 16


class PictureTarget(Target):
    """PNG, JPEG, GIF, BMP, TIFF and WebP in many modes."""

    def prepare(self, folder: Path) -> None:
        self.root = folder / "data"
        (self.root / "a").mkdir(parents=True)
        for name in ("0.png", "z.png"):
            Image.fromarray(colours(len(name))).save(self.root / "a" / name)
        good = open_source(f"imagefolder:{self.root}")
        self.good = {"0.png": good.image(0, SIDE, 3), "z.png": good.image(1, SIDE, 3)}

    def seeds(self) -> list[tuple[str, bytes]]:
        rgb = Image.fromarray(colours(3))
        rgba = Image.fromarray(np.dstack([colours(4), colours(5)[..., :1]]))
        deep = Image.fromarray(np.arange(40 * 30, dtype=np.uint16).reshape(40, 30) * 50)
        exif = Image.Exif()
        exif[0x0112] = 6
        palette = rgb.quantize(16)
        modes = {
            "PNG": [
                (rgb, {"exif": exif}),
                (rgba, {}),
                (palette, {"transparency": 3}),
                (deep, {}),
                (rgb.convert("1"), {}),
            ],
            "JPEG": [(rgb, {"exif": exif}), (rgb.convert("L"), {"progressive": True}), (rgb.convert("CMYK"), {})],
            "GIF": [(palette, {"save_all": True, "append_images": [rgb.rotate(90).quantize(16)], "transparency": 2})],
            "BMP": [(rgb, {}), (palette, {})],
            "TIFF": [
                (rgb, {"compression": "tiff_lzw", "exif": exif}),
                (deep, {}),
                (rgba, {"compression": "tiff_deflate"}),
            ],
            "WEBP": [(rgba, {"lossless": True}), (rgb, {"exif": exif})],
        }
        return [
            (f".{kind.lower()}", encoded(picture, kind, options))
            for kind, variants in modes.items()
            for picture, options in variants
        ]

    def read(self, path: Path) -> None:
        damaged = self.root / "a" / f"m{path.suffix}"
        path.rename(damaged)
        try:
            source = open_source(f"imagefolder:{self.root}")
            taken = 2 if source.problems else 3
            if len(source) != taken:
                raise SilentChangeError(f"{len(source)} pictures are taken and {len(source.problems)} are named")
            images = source.images(range(taken), SIDE, 3)
            for row, name in ((0, "0.png"), (taken - 1, "z.png")):
                if not torch.equal(images[row], self.good[name]):
                    raise SilentChangeError(f"{name} is no longer what it was")
            if len(source.problems) != 3 - taken:
                raise SilentChangeError(f"what could be read at the start cannot be later: {source.problems[0]}")
            if not source.problems:
                whole_picture(damaged, 1)
            else:
                self.refused_everywhere(damaged)
                raise UnreadableError(source.problems[0])
        finally:
            damaged.unlink()

    def refused_everywhere(self, damaged: Path) -> None:
        """Whatever training counts as unreadable is refused by what scores, too."""
        try:
            whole_picture(damaged)
        except UnreadableError:
            return
        raise SilentChangeError("the picture is scored and not trained on")


def colours(seed: int) -> np.ndarray:
    """A smooth picture with a little noise, 40 x 30."""
    random = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(40) * 4, np.arange(30) * 2)[..., None] + np.array([0, 20, 40])
    return (ramp + random.integers(0, 20, (40, 30, 3))).clip(0, 255).astype(np.uint8)


def encoded(picture: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
