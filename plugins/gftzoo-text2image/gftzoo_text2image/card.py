"""The card of a pipeline's folder, `diffusers:PATH_OR_REPO`: its configuration files become data. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, prod
from pathlib import Path
from typing import Any

from gftzoo.catalogue.cards import Checkpoint, LearningRate, ModelCard, Recipe, TokenizerSpec
from gftzoo.documents import read_json
from gftzoo.errors import GftzooError, UsageError
from gftzoo_text2image.folders import INDEX, read_index
from gftzoo_text2image.pipelines import Pipeline, known_pipeline

STEM = "diffusion_pytorch_model"
BETA = 0.33  # a CFG scale of 3: the one strength of an adapter that has no input for it


def pipeline_card(source: str) -> ModelCard:
    """The card of a pipeline in a local folder, or in a repository of the hub, of which the configuration is fetched.

    Raises:
        UsageError: no pipeline, or one whose class is not known.
        GftzooError: a configuration that cannot be read, or asks for code of its own.
    """
    folder = Path(source).expanduser()
    local = folder.is_dir()
    folder = folder.absolute() if local else fetched(source)
    index = read_index(folder)
    name = str(index["_class_name"])
    pipeline = known_pipeline(name, repr(source))
    config = read_config(folder / pipeline.component)
    if config.get("_class_name") != pipeline.network:
        raise UsageError(
            f"the {pipeline.component} of {source!r} is of class {config.get('_class_name')!r}, and that of a {name} "
            f"is a {pipeline.network}."
        )
    file = denoiser_file(folder, pipeline) if local else None
    tokenizer, factor = tokenizer_spec(folder, pipeline, str(folder) if local else None, source)
    return ModelCard(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name if local else source.rpartition("/")[2]).strip("-._"),
        family="text2image",
        summary=f"{name} of {source}",
        parameters=count_parameters(file) if file else 0,
        resolution=side_of(config) * factor,
        tokenizer=tokenizer,
        condition="text",
        text_encoder=str(folder) if local else source,
        classes=0,
        network={
            "pipeline": name,
            "config": {key: value for key, value in config.items() if not key.startswith("_")},
            "scheduler": read_config(folder / "scheduler", "scheduler_config.json"),
        },
        data="emoji-captions",
        checkpoints={"base": checkpoint(source, folder, file, pipeline)},
        recipes=RECIPES,
    )


def fetched(source: str) -> Path:
    """The folder in the hub's cache with the configuration of a pipeline; UsageError where there is no such thing."""
    from huggingface_hub import snapshot_download  # slow to import

    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "*/*.json"]))
    except Exception as error:  # the hub client raises many types
        raise UsageError(
            f"there is no folder {source!r}, and the hub gives no pipeline of that name ({type(error).__name__}); "
            f"give the path of a folder with {INDEX}, e.g. diffusers:./stable-diffusion-3.5-medium."
        ) from error


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The configuration of a part of a pipeline, without infinities, which are defaults; GftzooError for none."""
    found = read_json(folder / name)
    if not isinstance(found, dict):
        raise GftzooError(f"{str(folder / name)!r} is damaged: it holds no mapping.")
    return {key: value for key, value in found.items() if not (isinstance(value, float) and not isfinite(value))}


def side_of(config: Mapping[str, Any]) -> int:
    """Side of the latent that a denoiser is made for, before patches are packed; FLUX and its kin do not say it."""
    side = config.get("sample_size") or 128
    return int(side[0] if isinstance(side, list) else side)


def tokenizer_spec(folder: Path, pipeline: Pipeline, path: str | None, repo: str) -> tuple[TokenizerSpec, int]:
    """The pipeline's autoencoder, and how many pixels of a picture one of its latent has."""
    config = read_config(folder / pipeline.autoencoder)
    kind = str(config.get("_class_name"))
    spec: dict[str, Any] = {"scale": config.get("scaling_factor", 0.18215), "shift": config.get("shift_factor") or 0.0}
    channels, patch = config.get("latent_channels", 4), 1
    levels = len(config.get("block_out_channels", config.get("encoder_block_out_channels", (1,)))) - 1
    if kind == "AutoencoderKLQwenImage":
        spec, channels, levels = {}, config["z_dim"], len(config["temperal_downsample"])
    if kind == "AutoencoderKLFlux2":
        spec, channels, patch = {}, 4 * channels, 2
    where = {"file": path} if path else {"repo": repo}
    identity = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{folder.name if path else repo}-vae")
    built = TokenizerSpec(
        id=identity, kind="diffusers-autoencoder", channels=channels, downsample=2**levels * patch,
        options={"class": kind, "part": pipeline.autoencoder}, **spec, **where,
    )  # fmt: skip
    return built, 2**levels


def denoiser_file(folder: Path, pipeline: Pipeline, entry: Any = None) -> Path:
    """The file with the denoiser, or the index of its shards, in the folder of a pipeline or of the denoiser alone.

    Raises UsageError if there is none.
    """
    from gftzoo.weights import weights_in  # with torch, which `gftzoo list` does not need

    for place in (folder / pipeline.component, folder):
        found = weights_in(place, entry, [STEM])
        if found is not None:
            return found
    raise UsageError(
        f"{str(folder)!r} holds no {pipeline.network}; a pipeline has {STEM}.safetensors or an index of shards in its "
        f"folder {pipeline.component}."
    )


def checkpoint(source: str, folder: Path, file: Path | None, pipeline: Pipeline) -> Checkpoint:
    """The denoiser's own weights."""
    if file is not None:
        return Checkpoint(repo=str(folder), file=file.relative_to(folder).as_posix(), note="the pipeline's own")
    return Checkpoint(repo=source, file=f"{pipeline.component}/{STEM}.safetensors", note="the pipeline's own")


def count_parameters(file: Path) -> int:
    """The numbers in a safetensors file, or in the shards of an index, by their headers; 0 for files of torch."""
    from safetensors import safe_open  # slow to import

    names = [file.name]
    if file.suffix == ".json":
        names = sorted({Path(str(name)).name for name in read_json(file)["weight_map"].values()})
    if not all(name.endswith(".safetensors") and (file.parent / name).is_file() for name in names):
        return 0
    total = 0
    for name in names:
        with safe_open(file.parent / name, framework="np") as opened:
            total += sum(prod(opened.get_slice(key).get_shape()) for key in opened.keys())  # noqa: SIM118
    return total


_ADAPTER = Recipe(
    summary=f"LoRA at one temperature, {BETA}, which needs no new input: an ordinary LoRA file",
    objective="gft",
    objective_options={"p_drop": 0.1, "beta_min": BETA, "beta_max": BETA},
    init="base",
    train="lora",
    network={"temperature_input": "none"},
    steps=2000,
    batch_size=16,
    lr=1e-4,
    weight_decay=0.01,
    clip_norm=1.0,
    learning_rate=LearningRate(warmup=100),
    ema_decay=0.999,
    ema_warmup=True,
    hflip=False,
)
_PLAIN = {"summary": "LoRA of the plain model", "objective": "conditional", "objective_options": {"p_drop": 0.1}}
_AFFINE = {
    "summary": "LoRA at every temperature, affine: one is folded in when the model is exported",
    "objective_options": {"p_drop": 0.1},
    "network": {"temperature_input": "affine"},
}
RECIPES = {
    "gft": _ADAPTER,
    "affine": _ADAPTER.model_copy(update=_AFFINE),
    "conditional": _ADAPTER.model_copy(update={**_PLAIN, "network": {}}),
}
