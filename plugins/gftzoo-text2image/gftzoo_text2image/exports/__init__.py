"""A trained model for stock programs: a merged pipeline, a LoRA file, or one checkpoint of the original code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gftzoo.contract.model import Model
from gftzoo_text2image.exports.kohya import write_kohya
from gftzoo_text2image.exports.lora import write_lora
from gftzoo_text2image.exports.pipeline import write_pipeline
from gftzoo_text2image.exports.single_file import write_single_file

FORMATS: Mapping[str, Callable[[Model, Path], Path]] = {
    "diffusers": write_pipeline,
    "lora": write_lora,
    "kohya": write_kohya,
    "single-file": write_single_file,
}
