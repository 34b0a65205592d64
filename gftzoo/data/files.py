"""Image files with a class index or captions each, read when they are needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from gftzoo.data.decoding import VERSION, DecodingSource
from gftzoo.data.listing import Condition
from gftzoo.data.settings import Decoding, settings_of
from gftzoo.printing import plain


class About(NamedTuple):
    """What the file system says of a file; times in ns."""

    size: int
    modified: int
    changed: int


class FileSource(DecodingSource):
    """Image files with a class index or a caption, or several, each.

    What the file system says of them is asked when a fingerprint is wanted, and once.

    Args:
        name: as given on the command line.
        files: paths, of strings: pathlib takes most of the time of opening a million.
        conditions: class index or caption of each; several captions are a tuple.
        class_names: one per class.
        decoding: how pictures are decoded.
        unreadable: what is known to be wrong with some of them, by row.
    """

    def __init__(
        self,
        name: str,
        files: list[str],
        conditions: list[Condition],
        class_names: tuple[str, ...] = (),
        decoding: Decoding | None = None,
        unreadable: dict[int, str] | None = None,
    ) -> None:
        super().__init__(decoding)
        self.name, self.files, self.conditions, self.class_names = name, files, conditions, class_names
        self.condition = "class" if class_names else "text"
        self._about: list[About | None] | None = None
        grey = self.leave_out_unreadable(self._state, unreadable)
        self.channels = 1 if grey else 3

    def __len__(self) -> int:
        return len(self.files)

    def keep(self, rows: Sequence[int]) -> None:
        self.files, self.conditions = [self.files[row] for row in rows], [self.conditions[row] for row in rows]
        if self._about is not None:
            self._about = [self._about[row] for row in rows]

    def place(self, row: int) -> str:
        return plain(self.files[row])

    def stored(self, row: int) -> Path:
        return Path(self.files[row])

    def key(self, row: int) -> str:
        path, what = Path(self.files[row]), self.own_condition(row)
        return f"{what if self.condition == 'text' else path.parent.name}/{path.name}"

    def own_condition(self, row: int) -> int | str:
        what = self.conditions[row]
        return what[0] if isinstance(what, tuple) else what

    def drawn_condition(self, row: int, number: int) -> int | str:
        what = self.conditions[self.readable(row)]
        return what[number % len(what)] if isinstance(what, tuple) else what

    @property
    def several(self) -> bool:
        return self.condition == "text" and any(isinstance(what, tuple) for what in self.conditions)

    @property
    def about(self) -> list[About | None]:
        """What the file system says of each file; None where it says nothing."""
        if self._about is None:
            self._about = [_about(path) for path in self.files]
        return self._about

    def _state(self) -> str:
        """A hash of where all files lie and of when they changed."""
        lines = [
            f"\n{path} " if about is None else f"\n{path} {about.size} {about.changed}"
            for path, about in zip(self.files, self.about, strict=True)
        ]
        return _hash(lines)

    @cached_property
    def listing(self) -> str:  # type: ignore[override]
        """The names and sizes of the files that can be read, and what comes with them."""
        rows = zip(self.files, self.about, self.conditions, strict=True)
        lines = [f"\n{os.path.basename(p)} {a.size} {what}" for p, a, what in rows if a is not None]  # noqa: PTH119
        return _hash([f"{VERSION} {settings_of(self.name)}", *lines])[:16]

    @cached_property
    def times(self) -> str:  # type: ignore[override]
        """The change times of the same."""
        rows = zip(self.files, self.about, strict=True)
        return _hash([f"\n{os.path.basename(p)} {a.modified}" for p, a in rows if a is not None])[:32]  # noqa: PTH119

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The listing."""
        return self.listing


def _about(path: str) -> About | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (of a million files)
    except (OSError, ValueError):
        return None
    return About(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()
