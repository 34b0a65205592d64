"""What a folder, or a file of lines, names before any picture is opened: listed by one process, and kept.

The next run, and the other ranks of this one, read what was kept instead, for as long as the folders and files that it
follows from stay as they were: a file that comes or goes, or another name, changes the folder that it is in.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gftzoo.atomic import written_whole
from gftzoo.data.locking import one_at_a_time
from gftzoo.errors import GftzooError
from gftzoo.homes import cache_folder

VERSION = 3  # of what is listed, and how it is kept
BETWEEN = "\0"  # of names, none of which has it
NAMES = "utf-8", "surrogatepass"  # of a name that is no text, as well
WORTH = 1_000  # pictures from which on it is kept
MOUNTS = Path("/proc/self/mountinfo")  # of Linux
YOUNG = 10.0  # seconds; what changed so lately may change again within one tick of a file system's clock

Condition = int | str | tuple[str, ...]
State = tuple[int, int, int, int]


@dataclass(frozen=True)
class Listing:
    """Files and what comes with them.

    Args:
        files: paths.
        conditions: class index or caption of each; several captions are a tuple.
        class_names: one per class.
        left_out: sentences about what is there and is not listed.
        unreadable: what is known to be wrong with some, by row.
        watched: the folders and files that it was read from, as they were just before.
        lasting: whether it stays as it is for as long as they do.
    """

    files: list[str]
    conditions: list[Condition]
    class_names: tuple[str, ...] = ()
    left_out: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    watched: dict[str, State | None] = field(default_factory=dict)
    lasting: bool = True


def state_of(path: str) -> State | None:
    """Changes with the entries of a folder or the content of a file, and where another takes its place."""
    try:
        found = os.stat(path)  # noqa: PTH116 (of thousands of folders)
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def listed_once(about: Iterable[object], find: Callable[[], Listing]) -> Listing:
    """What `find` returns, or returned before, of what is as it was; of several processes one finds it.

    Args:
        about: what is listed, and how.
        find: lists it; GftzooError.
    """
    asked = hashlib.sha256(json.dumps([VERSION, *map(str, about)]).encode()).hexdigest()
    path = cache_folder("listings") / f"{asked[:32]}.json"
    kept = _kept(path)
    if kept is not None:
        return kept
    with one_at_a_time(path.with_suffix(".lock")) as waited:
        kept = _kept(path)  # by a process that this one has waited for
        if kept is not None:
            return kept
        if not waited:
            return _found(find, path)
    return _found(find, path)  # beside the others: where nothing was kept, they would list one after the other


def _found(find: Callable[[], Listing], path: Path) -> Listing:
    """What `find` returns, kept where it is worth it and will last."""
    before = time.time_ns() - int(YOUNG * 1e9)
    found = find()
    settled = all(state is not None and state[2] < before for state in found.watched.values())
    if found.lasting and settled and len(found.files) >= WORTH and not on_fuse(found.watched):
        _keep(found, path)
    return found


def on_fuse(paths: Iterable[str]) -> bool:
    """Whether some lie on a mount of FUSE, as those of object stores, whose folders may be as before when files come.

    False where the system does not list its mounts.
    """
    devices = set()
    with suppress(OSError):
        for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            mount, _, kind = line.partition(" - ")
            if kind.startswith(("fuse ", "fuse.")):
                devices.add(os.makedev(*map(int, mount.split()[2].split(":"))))
        return bool(devices) and any(os.stat(path).st_dev in devices for path in paths)  # noqa: PTH116 (as above)
    return False


def _keep(listing: Listing, path: Path) -> None:
    """Writes a listing below a hash of it; a home that cannot be written keeps nothing.

    The names come last, as they are: most of the time would go into their escapes, in and out of JSON.
    """
    about = {key: value for key, value in vars(listing).items() if key != "files"}
    body = json.dumps(about).encode() + b"\n" + BETWEEN.join(listing.files).encode(*NAMES)
    with suppress(GftzooError, OSError), written_whole(path) as partial:
        partial.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def _kept(path: Path) -> Listing | None:
    """The listing in a file; None where there is none, it is damaged or another version's, or the data has changed."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        seal, _, body = path.read_bytes().partition(b"\n")
        if seal.decode() == hashlib.sha256(body).hexdigest():
            about, _, names = body.partition(b"\n")
            found = json.loads(about)
            watched = {place: tuple(state) for place, state in found.pop("watched").items()}
            if all(state_of(place) == state for place, state in watched.items()):
                return Listing(
                    **found
                    | {
                        "files": names.decode(*NAMES).split(BETWEEN),
                        "watched": watched,
                        "class_names": tuple(found["class_names"]),
                        "conditions": [tuple(each) if isinstance(each, list) else each for each in found["conditions"]],
                        "unreadable": {int(row): why for row, why in found["unreadable"].items()},
                    }
                )
    return None
