"""Pipelines of diffusers with unCLIP's parts, as files of weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from gftzoo.errors import GftzooError, UsageError
from gftzoo.weights import read_tensors, weights_in

DECODER = ("decoder", "text_proj")  # the folders that the decoder's tensors are in


def prior_file(folder: Path) -> Path:
    """The prior's weights in the folder of a pipeline, or of the prior alone; UsageError for none."""
    found = weights_in(folder / "prior") or weights_in(folder)
    if found is None:
        raise UsageError(f"{str(folder)!r} holds no prior; a pipeline of Karlo has it in its folder 'prior'.")
    return found


def decoder_file(folder: Path) -> Path:
    """The index of the decoder's weights, which a pipeline keeps in two folders; UsageError for none.

    It lies with links to both files in a folder of its own, which the system clears with its temporary files.
    """
    files = {part: weights_in(folder / part) for part in DECODER}
    missing = next((part for part, file in files.items() if file is None), None)
    if missing is not None:
        raise UsageError(
            f"{str(folder)!r} holds no {missing}; a pipeline of Karlo has the folders {', '.join(DECODER)}."
        )
    place = Path(tempfile.mkdtemp(prefix="gftzoo-decoder-"))
    names: dict[str, str] = {}
    for part, file in files.items():
        assert file is not None
        target = place / f"{part}{file.suffix}"
        names |= dict.fromkeys(read_tensors(file).tensors, target.name)
        link(file.resolve(), target)
    index = place / "decoder.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}), encoding="utf-8")
    return index


def link(file: Path, target: Path) -> None:
    """A link to a file, or a copy of it where the system has none."""
    try:
        target.symlink_to(file)
    except OSError:
        try:
            shutil.copyfile(file, target)
        except OSError as error:
            raise GftzooError(f"{str(target)!r} could not be written ({error.strerror or error}).") from error
