"""Folders of transformers and diffusers: what in them would lead to code of theirs is refused. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gftzoo.documents import read_json
from gftzoo.errors import GftzooError

PIPELINES = Path(__file__).parent / "pipelines"  # those that come with gftzoo
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


def load_foreign(kind: Any, source: str | Path, what: str, advice: str, **options: Any) -> Any:
    """`kind.from_pretrained(source, ...)` of transformers or diffusers, from a folder or the hub; no code there runs.

    Raises GftzooError if `what` cannot be had, ending with `advice`.
    """
    try:
        refuse_code(source)
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except GftzooError:
        raise
    except Exception as error:  # the hub client and the readers raise many types
        reason = str(error).split("\n", 1)[0][:120]
        raise GftzooError(f"{what} could not be loaded ({type(error).__name__}: {reason}); {advice}") from error


def local_folder(pipeline: str) -> Path | None:
    """The folder of a pipeline that is here, one of gftzoo's own or a user's; None for one on the hub."""
    return next((folder for folder in (PIPELINES / pipeline, Path(pipeline)) if folder.is_dir()), None)


def load_part(kind: Any, part: str, pipeline: str, **options: Any) -> Any:
    """A component of a pipeline (`vae`, `text_encoder`, `tokenizer`); a local folder may also be the component itself.

    Raises GftzooError if it cannot be had.
    """
    folder, what = local_folder(pipeline), f"the {part} of {pipeline!r}"
    advice = (
        "name a local diffusers folder, in training with -o text_encoder=PATH and -o tokenizer_path=PATH, in sampling "
        "with --tokenizer-path PATH."
    )
    if folder is None:
        return load_foreign(kind, pipeline, what, advice, subfolder=part, **options)
    refuse_code(folder)
    place = folder / part if (folder / part).is_dir() else folder
    return load_foreign(kind, place, what, advice, local_files_only=True, **options)
