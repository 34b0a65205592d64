"""Folders whose every file has its checksum in `state.json`, which has one of its own. No torch here."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from pydantic import Field, ValidationError

from gftzoo.catalogue.cards import Frozen, validation_sentence
from gftzoo.documents import DocumentError, parse_json, read_text
from gftzoo.errors import GftzooError

STATE_FILE = "state.json"
CARD_FILE = "card.json"
VERSION = 2
UNSUMMED = {"step", "seed", "scaler"}  # all that version 1 has
STEP_FOLDER = re.compile(r"step-(\d+)$")
_log = logging.getLogger("gftzoo.checkpoints")


class FileSum(Frozen):
    """What a file has to be."""

    bytes: int = Field(ge=0)
    sha256: str


class State(Frozen):
    """`state.json`; version 1, of older runs, has no checksums."""

    version: Literal[1, 2] = 1
    step: int = Field(ge=0)
    seed: int = 0
    scaler: dict[str, int | float] = Field({}, description="of fp16's loss scale")
    optimizer: list[dict[str, int | float]] = Field([], description="what it counts for each group of parameters")
    made_of: dict[str, Any] = Field({}, description="data, settings and versions; see gftzoo.engine.provenance")
    files: dict[str, FileSum] = Field({}, description="by their path in the folder")
    checksum: str = Field("", description="of all of this without it")


class DamagedError(GftzooError):
    """A file of a checkpoint is not what was written."""


def seal(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes `state.json` with the checksums of all other files of the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / STATE_FILE]
    files = {path.relative_to(folder).as_posix(): file_sum(path) for path in paths}
    found = {"version": VERSION, **state, "files": {name: about.model_dump() for name, about in files.items()}}
    (folder / STATE_FILE).write_text(_text({**found, "checksum": _checksum(found)}), encoding="utf-8")


def read_state(folder: Path) -> State:
    """The state of a checkpoint; DamagedError as of `verify`, also where its folder is named for another step."""
    try:
        return _read(folder)
    except DamagedError as error:
        raise DamagedError(_with_advice(error, folder)) from error


def _read(folder: Path) -> State:
    path = folder / STATE_FILE
    try:
        text = read_text(path)
        found = parse_json(text, repr(str(path)))
        state = State.model_validate(found)
    except ValidationError as error:
        raise _damaged(path, validation_sentence(STATE_FILE, error, State).rstrip(".")) from error
    except DocumentError as error:
        raise _damaged(path, str(error).partition(" cannot be read: ")[2].rstrip(".") or "not readable") from error
    if state.version == VERSION:
        unsummed = {key: value for key, value in found.items() if key != "checksum"}
        if state.checksum != _checksum(unsummed) or text != _text(found):
            raise _damaged(path, "its checksum is another")
    elif found.keys() - UNSUMMED:  # a newer one that claims to be an older, whose checksums would not be looked at
        raise _damaged(path, "it has checksums and not their version")
    named = STEP_FOLDER.match(folder.name)
    if named and int(named[1]) != state.step:
        raise _damaged(path, f"it is of step {state.step}")
    return state


def verify(path: Path) -> None:
    """Compares a file, or a whole checkpoint, with the `state.json` of its folder; one of another origin has none.

    Raises:
        DamagedError: names the first file that is not what was written, and the newest sound checkpoint of the run.
    """
    folder = path if (path / CARD_FILE).is_file() or STEP_FOLDER.match(path.name) else path.parent
    try:
        _verify(path, folder)
    except DamagedError as error:
        raise DamagedError(_with_advice(error, folder)) from error


def _verify(path: Path, folder: Path) -> None:
    saved = STEP_FOLDER.match(folder.name) and folder.parent.name == "checkpoints"
    if not saved and not ((folder / STATE_FILE).is_file() and (folder / CARD_FILE).is_file()):
        return  # not of a run
    state = _read(folder)
    if state.version == 1:
        _say_unsummed(folder)
    inside = "" if folder == path else path.relative_to(folder).as_posix()
    for name, about in state.files.items():
        if not inside or name == inside or name.startswith(f"{inside}/"):
            _compare(folder / name, about)


def sound(folder: Path) -> bool:
    """Whether a checkpoint is as it was written."""
    try:
        _verify(folder, folder)
    except (DamagedError, OSError):
        return False
    return True


def advice(folder: Path) -> str:
    """What to do about a damaged checkpoint: which other one of the run is sound."""
    steps = [path for path in folder.parent.glob("step-*") if STEP_FOLDER.match(path.name) and path != folder]
    others = sorted(steps, key=lambda path: int(path.name[5:]), reverse=True)
    found = next((path for path in others if (path / STATE_FILE).is_file() and sound(path)), None)
    if not STEP_FOLDER.match(folder.name) or found is None:
        return "there is no other sound checkpoint here; copy it again from where it came, or train anew"
    return (
        f"the newest sound checkpoint is {found.name}: to use it, take the other away with `rm -r {quote(str(folder))}`"
    )


def file_sum(path: Path) -> FileSum:
    """Size and hash of a file."""
    with path.open("rb") as file:
        return FileSum(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)


def _compare(path: Path, about: FileSum) -> None:
    if not path.is_file():
        raise _damaged(path, "it is missing")
    size = path.stat().st_size
    if size != about.bytes:
        what = "truncated" if size < about.bytes else "too long"
        raise _damaged(path, f"it is {what}, {size:,} bytes and not {about.bytes:,}")
    if file_sum(path) != about:
        raise _damaged(path, f"its checksum is not the one in {STATE_FILE}")


def _damaged(path: Path, why: str) -> DamagedError:
    return DamagedError(f"{str(path)!r} is damaged ({why}).")


def _with_advice(error: DamagedError, folder: Path) -> str:
    return f"{str(error).rstrip('.')}; {advice(folder)}."


def _checksum(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(found).encode()).hexdigest()


def _text(found: Mapping[str, Any]) -> str:
    return json.dumps(dict(found), indent=1, allow_nan=False) + "\n"


@cache
def _say_unsummed(folder: Path) -> None:
    """Once for each checkpoint."""
    _log.warning("%s was written by an older gftzoo, without checksums; damage may go unseen.", folder)
