"""`hub:OWNER/NAME[/FOLDER][@REVISION]`: where a model is on the Hugging Face Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gftzoo.errors import UsageError
from gftzoo.printing import LONGEST_NAME, plain

PREFIX = "hub:"
_NAME = r"(?!.*(?:--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"  # as the hub has it
REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/-]*")


@dataclass(frozen=True)
class HubAddress:
    """A folder of a repository at a revision.

    Args:
        repo: `OWNER/NAME`.
        folder: in it; empty for its top, and `beta-0.5` for a variant that was pushed with the model.
        revision: branch, tag or commit; None is the newest of the main branch.
    """

    repo: str
    folder: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        folder = f"/{self.folder}" if self.folder else ""
        return f"{PREFIX}{self.repo}{folder}" + (f"@{self.revision}" if self.revision else "")


def address_of(source: str | Path | None) -> HubAddress | None:
    """The address that a model's source is, None for anything else; UsageError for a malformed one."""
    text = "" if source is None else str(source)
    if not text.startswith(PREFIX):
        return None
    place, at, revision = text.removeprefix(PREFIX).partition("@")
    owner, _, rest = place.partition("/")
    name, slash, folder = rest.partition("/")
    sound = REPOSITORY.fullmatch(f"{owner}/{name}") and (not slash or _FOLDER.fullmatch(folder))
    if not sound or (at and not _REVISION.fullmatch(revision)):
        raise UsageError(
            f"{plain(text, LONGEST_NAME)!r} is no address on the hub; write hub:OWNER/NAME, hub:OWNER/NAME@REVISION "
            "or hub:OWNER/NAME/FOLDER."
        )
    return HubAddress(f"{owner}/{name}", folder, revision or None)


def refuse_no_repository(name: str) -> str:
    """`OWNER/NAME` without the `hub:` that may stand before it; UsageError for anything else."""
    repo = name.removeprefix(PREFIX)
    if not REPOSITORY.fullmatch(repo):
        raise UsageError(f"{plain(name, LONGEST_NAME)!r} is no repository of the hub; write OWNER/NAME.")
    return repo
