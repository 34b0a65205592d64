"""Folders of diffusers pipelines: their parts are read as what their class is known to be, and nothing in them runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gftzoo.documents import read_json
from gftzoo.errors import GftzooError, UsageError
from gftzoo.foreign_folders import load_foreign, refuse_code
from gftzoo.printing import LONGEST_NAME, plain
from gftzoo_text2image.bert import CheckpointText
from gftzoo_text2image.pipelines import known_pipeline

INDEX = "model_index.json"
LIBRARIES = (
    "diffusers",
    "transformers",
    "stable_diffusion",
    "latent_diffusion",
    None,
)  # modules of diffusers among them
NOT_OF_TEXT = ("transformer", "unet", "vae", "safety_checker", "feature_extractor", "image_encoder")
ADVICE = "name a local diffusers pipeline with --tokenizer-path PATH, in training with -o tokenizer_path=PATH."


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a pipeline's folder.

    Raises UsageError for a pipeline that is not known, or parts of other libraries than diffusers and transformers.
    """
    found = describe(folder)
    known_pipeline(str(found.get("_class_name")), repr(str(folder)))
    check_parts(folder, found, LIBRARIES)
    return found


def describe(folder: Path) -> dict[str, Any]:
    """`model_index.json` of the folder of any pipeline; UsageError where there is none."""
    path = folder / INDEX
    if not path.is_file():
        raise UsageError(f"{str(folder)!r} is no pipeline of diffusers: it has no {INDEX}.")
    found = read_json(path)
    if not isinstance(found, dict):
        raise GftzooError(f"{str(path)!r} is damaged: it describes no pipeline.")
    return found


def check_parts(folder: Path, index: Mapping[str, Any], libraries: Collection[str | None]) -> None:
    """GftzooError for a part of another library, one that asks for code of its own, or one outside of the folder."""
    for name, part in index.items():
        if isinstance(part, list) and not name.isidentifier():
            raise GftzooError(
                f"{str(folder / INDEX)!r} has the part {plain(name, LONGEST_NAME)!r}, which no part can be called; "
                "take a pipeline of diffusers and transformers alone."
            )
        if isinstance(part, list) and (len(part) != 2 or part[0] not in libraries):
            raise GftzooError(
                f"{str(folder / INDEX)!r} has the part {name!r} from {part[0]!r}, code of its own, and none is run "
                "from a folder of weights; take a pipeline of diffusers and transformers alone."
            )
        if isinstance(part, list):
            refuse_code(folder / name)


def load_text_encoders(pipeline: str, source: str) -> Any:
    """The pipeline of that class with its text encoders and tokenizers alone, in fp32; of a file, latent diffusion's.

    Raises GftzooError if they cannot be had.
    """
    import diffusers  # slow to import
    import torch

    if Path(source).is_file():
        return CheckpointText(Path(source))

    known_pipeline(pipeline, "the pipeline")
    kind, local = getattr(diffusers, pipeline), Path(source).is_dir()
    signature = kind._get_signature_keys(kind)[0]
    left_out = {name: None for name in NOT_OF_TEXT if name in signature}
    if local:
        found = read_index(Path(source))
        if found["_class_name"] != pipeline:
            raise UsageError(f"{source!r} is a {found['_class_name']} and not a {pipeline}; {ADVICE}")
    diffusers.utils.logging.disable_progress_bar()
    parts = load_foreign(
        kind, source, f"the text encoders of {source!r}", ADVICE, local_files_only=local, torch_dtype=torch.float32,
        **left_out,
    )  # fmt: skip
    for part in parts.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return parts
