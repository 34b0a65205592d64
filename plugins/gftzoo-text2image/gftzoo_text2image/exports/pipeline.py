"""The whole pipeline as a folder, with its denoiser replaced; a stock pipeline of diffusers loads it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo_text2image.folders import INDEX, read_index
from gftzoo_text2image.network import options_of, pipeline_of
from gftzoo_text2image.text import encoders_of


def write_pipeline(model: Model, folder: Path) -> Path:
    """Writes the denoiser, and beside it copies of the parts that did not train; returns the folder.

    Raises GftzooError where the folder cannot be written or the pipeline that the model came from is gone, and
    UsageError for an affine temperature that is not folded.
    """
    if model.card.temperature and options_of(model.card).affine:
        raise UsageError(
            f"{model.card.name} has an affine temperature, whose slope no pipeline knows; fold one value into its last "
            "layer with --beta 0.5."
        )
    source, component = source_folder(model), pipeline_of(model.card).component
    with parts_beside(source, read_index(source), folder, {component}):
        model.network.save_pretrained(folder / component)
    return folder


@contextmanager
def parts_beside(source: Path, index: Mapping[str, Any], folder: Path, replaced: Collection[str]) -> Iterator[None]:
    """Copies of a pipeline's parts, index and licences in a folder, but for those parts that are written inside.

    Raises GftzooError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in index.items():
            if isinstance(part, list) and part[0] is not None and name not in replaced and (source / name).is_dir():
                shutil.copytree(source / name, folder / name)
        for path in [source / INDEX, *source.glob("LICENSE*")]:
            shutil.copy(path, folder / path.name)
        yield
    except OSError as error:
        raise GftzooError(f"{str(folder)!r} could not be written ({error.strerror or error}).") from error


def source_folder(model: Model) -> Path:
    """The local folder of the pipeline that a model is of, fetched from the hub where it has to be."""
    return local_pipeline(encoders_of(model).source)


def local_pipeline(source: str) -> Path:
    """A pipeline's folder, fetched from the hub where it is none here; GftzooError if it cannot be had."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download  # slow to import

    try:
        return Path(snapshot_download(source))
    except Exception as error:  # the hub client raises many types
        raise GftzooError(
            f"the pipeline {source!r} could not be fetched ({type(error).__name__}); give its folder with "
            "--tokenizer-path PATH."
        ) from error
