"""The checkpoints that a run has: found, thinned out, and taken away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gftzoo import checksums
from gftzoo.checksums import STATE_FILE, STEP_FOLDER
from gftzoo.systems import link_folder

BEST = "checkpoint_best"  # in a run's folder, a link to the checkpoint with the best validation


def all_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path for path in (run / "checkpoints").glob("step-*") if STEP_FOLDER.match(path.name)]
    return sorted((p for p in found if (p / STATE_FILE).is_file()), key=lambda p: int(p.name[5:]))


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    return next(reversed(all_checkpoints(run)), None)


def prune(run: Path, keep_last: int, keep_every: int | None) -> None:
    """Removes old checkpoints after a newer one is safe; multiples of `keep_every` and the best one stay."""
    best = (run / BEST).resolve()
    for path in all_checkpoints(run)[:-keep_last]:
        if (not keep_every or int(path.name[5:]) % keep_every) and path.resolve() != best:
            discard(path)


def point_to_best(run: Path, step: int) -> None:
    """Makes `checkpoint_best` of a run a link to the checkpoint of a step, in place of another; OSError."""
    link_folder(run / BEST, Path("checkpoints") / f"step-{step:08d}")


def discard(folder: Path) -> None:
    """Removes a checkpoint, out of sight first, so that no half of one is ever seen."""
    if folder.exists():
        hidden = folder.with_name(f".partial-old-{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def sweep(run: Path) -> None:
    """Removes what saves that were cut left behind."""
    for path in (run / "checkpoints").glob(".partial-*"):
        shutil.rmtree(path, ignore_errors=True)


def read_state(folder: Path) -> dict[str, Any]:
    """What `state.json` says of a checkpoint; DamagedError if it is not as it was written."""
    return checksums.read_state(folder).model_dump()
