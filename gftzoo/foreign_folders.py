"""Folders of transformers and diffusers: what in them would lead to code of theirs is refused. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gftzoo.documents import read_json
from gftzoo.errors import GftzooError

CONFIGS = ("config.json", "tokenizer_config.json", "model_index.json", "processor_config.json")


def refuse_code(folder: str | Path) -> None:
    """GftzooError if a configuration in a local folder names code that is to be loaded with it (`auto_map`).

    The readers would ask on the terminal whether to run it, or leave it out and load something else. A name on the hub
    passes: there the readers are told `trust_remote_code=False`.

    Raises:
        GftzooError: also for a configuration that cannot be read.
    """
    for name in CONFIGS:
        path = Path(folder) / name
        if path.is_file():
            found: Any = read_json(path)
            code = found.get("auto_map") if isinstance(found, dict) else None
            if code:
                raise GftzooError(
                    f"{str(path)!r} asks for code of its own ('auto_map'), and none is run from a folder of weights; "
                    "take a model that its library has built in."
                )
