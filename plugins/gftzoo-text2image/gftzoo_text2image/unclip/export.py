"""One stage of unCLIP in a stock pipeline of diffusers, `UnCLIPPipeline`, beside the parts that did not train."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo.weights import read_tensors, weights_in
from gftzoo_text2image.exports.pipeline import local_pipeline, parts_beside
from gftzoo_text2image.folders import INDEX, check_parts, describe
from gftzoo_text2image.glide.folding import settled
from gftzoo_text2image.glide.sampling import learned_variance
from gftzoo_text2image.unclip.options import DecoderSampler
from gftzoo_text2image.unclip.prior import STATISTICS
from gftzoo_text2image.unclip.tokenizers import ADVICE, ClipEmbeddings

PIPELINE, PROJECTION = "UnCLIPPipeline", "UnCLIPTextProjModel"
LIBRARIES = ("diffusers", "transformers", "unclip")  # the last is where diffusers once had the projection
WEIGHTS = "diffusion_pytorch_model.safetensors"
State = Mapping[str, Tensor]


def write_prior(model: Model, folder: Path) -> Path:
    """Writes the pipeline with this prior in it, and the statistics of its embeddings; returns the folder.

    Raises UsageError as `write_stage` does.
    """
    tokenizer = model.require_tokenizer()
    assert isinstance(tokenizer, ClipEmbeddings)
    statistics = zip(STATISTICS, tokenizer.statistics(), strict=True)
    prior = inside(model.network.state_dict(), "prior.") | {name: value.view(1, -1) for name, value in statistics}
    return write_stage(model, {"prior": prior}, folder)


def write_decoder(model: Model, folder: Path) -> Path:
    """Writes the pipeline with this decoder in it; returns the folder.

    A variance that gftzoo's sampler takes no notice of is a constant there, since the pipeline's takes what it finds.

    Raises UsageError as `write_stage` does.
    """
    settings = model.family.sampler_settings(model.card)
    assert isinstance(settings, DecoderSampler)
    state = dict(model.network.state_dict())
    if not learned_variance(model, settings):
        state = settled(state)
    return write_stage(model, {"decoder": inside(state, "unet."), "text_proj": inside(state, "text_proj.")}, folder)


def inside(state: State, prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def write_stage(model: Model, parts: Mapping[str, State], folder: Path) -> Path:
    """Writes these parts of a pipeline, and beside them copies of all others; returns the folder.

    Raises:
        UsageError: a temperature input, or parts of other shapes than the pipeline's.
        GftzooError: the folder cannot be written, or the pipeline cannot be had.
    """
    from safetensors.torch import save_file

    card = model.card
    if card.temperature:
        raise UsageError(
            f"{card.name} has a temperature input, which no pipeline has; fold one value into its weights with "
            "--beta 0.25."
        )
    source = pipeline_folder(model)
    index = describe(source)
    if index.get("_class_name") != PIPELINE:
        raise UsageError(f"{str(source)!r} is a {index.get('_class_name')} and no {PIPELINE}; {ADVICE}")
    module = projection_module()
    check_parts(source, index, (*LIBRARIES, module))
    index["text_proj"] = [module, PROJECTION]
    for name, tensors in parts.items():
        check_shapes(card.name, source / name, tensors)
    with parts_beside(source, index, folder, parts):
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
        for name, tensors in parts.items():
            (folder / name).mkdir()
            shutil.copy(source / name / "config.json", folder / name / "config.json")
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, folder / name / WEIGHTS,
                metadata={"format": "pt"},
            )  # fmt: skip
    return folder


def projection_module() -> str:
    """Where the installed diffusers has the class of `text_proj`; it finds it by no other name in an index."""
    from diffusers import UnCLIPPipeline  # slow to import

    return str(getattr(inspect.getmodule(UnCLIPPipeline), PROJECTION).__module__)


def pipeline_folder(model: Model) -> Path:
    """The pipeline that the model is a stage of: what its tokenizer was named, else where its text encoder is."""
    named = getattr(model.tokenizer, "source", None)
    if named is not None and (Path(named) / INDEX).is_file():
        return Path(named)
    if model.card.text_encoder is None:
        raise UsageError(f"{model.card.name} names no pipeline; {ADVICE}")
    return local_pipeline(model.card.text_encoder)


def check_shapes(name: str, part: Path, tensors: State) -> None:
    """UsageError unless a part of a pipeline has tensors of the same names and shapes."""
    file = weights_in(part)
    if file is None:
        raise GftzooError(f"{str(part)!r} holds no weights; fetch the pipeline again.")
    theirs = {key: tuple(value.shape) for key, value in read_tensors(file).tensors.items()}
    ours = {key: tuple(value.shape) for key, value in tensors.items()}
    if wrong := sorted(ours.items() ^ theirs.items()):
        key = wrong[0][0]
        raise UsageError(
            f"{key!r} has shape {ours.get(key)} in {name} and {theirs.get(key)} in {str(part)!r}; {ADVICE}"
        )
