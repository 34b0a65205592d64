"""Tar files as webdataset lays them out: neighbours with one key are a sample, their suffixes say what is what.

A key ends at the first dot of a file's name (`0.png`, `0.cls`; `0.seg.png` is another suffix of the same sample). Where
that gives no picture, as in `scan_v1.0.png`, it ends at the last. Suffixes are compared without case.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import IO, Any, Literal, NamedTuple

import fsspec

from gftzoo.data.labels import CAPTION_COLUMNS, IMAGE_COLUMNS, LABEL_COLUMNS
from gftzoo.data.picture import one_line, picture_suffixes
from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import plain

FIRST = 10  # samples looked at before the start
LARGEST = 2**30  # bytes of a member; a larger one is taken for damage
BLOCK = tarfile.BLOCKSIZE


class Piece(NamedTuple):
    """A member of a tar file: where it lies, and its bytes if they were asked for."""

    name: str
    offset: int
    size: int
    data: bytes | None = None


@dataclass(frozen=True)
class Naming:
    """How a data set names its members: where a key ends, and which suffixes hold the conditions."""

    last_dot: bool
    condition: Literal["class", "text"]

    def split(self, name: str) -> tuple[str, str]:
        """Key and suffix of a member."""
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.rpartition(".") if self.last_dot else base.partition(".")
        return (f"{folder}{slash}{stem}" if stem else ""), suffix.lower()

    @property
    def conditions(self) -> tuple[str, ...]:
        """Suffixes of the condition, the first that is there counts."""
        return LABEL_COLUMNS if self.condition == "class" else CAPTION_COLUMNS

    def pair(self, sample: dict[str, Piece]) -> tuple[Piece, Piece] | None:
        """Picture and condition of a sample; None if one is missing."""
        picture, condition = (
            next((sample[suffix] for suffix in wanted if suffix in sample), None)
            for wanted in (picture_columns(), self.conditions)
        )
        return None if picture is None or condition is None else (picture, condition)


@cache
def picture_columns() -> tuple[str, ...]:
    """Suffixes of pictures, the usual ones first."""
    return tuple(dict.fromkeys([*IMAGE_COLUMNS, *(suffix[1:] for suffix in picture_suffixes())]))


@contextmanager
def opened(url: str) -> Iterator[tuple[tarfile.TarFile, IO[bytes]]]:
    """A tar file anywhere fsspec reaches; GftzooError for whatever goes wrong with it."""
    try:
        with fsspec.open(url, "rb") as file:
            seekable = file.seekable()
            with tarfile.open(fileobj=file, mode="r:*" if seekable else "r|*") as archive:
                yield archive, file
    except GftzooError:
        raise
    except Exception as error:  # every protocol has its own
        raise GftzooError(
            f"{plain(url)!r} could not be read ({type(error).__name__}: {one_line(error)}); check the file, its "
            "address and its access."
        ) from error


def samples(
    url: str, naming: Naming, wanted: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, dict[str, Piece]]]:
    """Keys and members of the samples of a tar file; while `wanted()`, members come with their bytes.

    Raises GftzooError also where the file is damaged in its middle, which tarfile takes for its end.
    """
    useful = {*picture_columns(), *LABEL_COLUMNS, *CAPTION_COLUMNS}
    with opened(url) as (archive, _):
        current, found = "", dict[str, Piece]()
        for member in archive:
            key, suffix = naming.split(member.name) if member.isreg() and not member.sparse else ("", "")
            if not key:
                continue
            if key != current or suffix in found:  # the same member again is of another sample, and none is lost
                if found:
                    yield current, found
                current, found = key, {}
            data = _data(archive, member) if suffix in useful and wanted() else None
            found[suffix] = Piece(member.name, member.offset_data, member.size, data)
            archive.members = []  # type: ignore[attr-defined]  # which would keep every header of the file
        if found:
            yield current, found
        _refuse_damage(archive, url)


def _data(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.size <= LARGEST else None
    return b"" if file is None else file.read()


def _refuse_damage(archive: tarfile.TarFile, url: str) -> None:
    file = archive.fileobj
    if archive.mode != "r" or file is None or not getattr(file, "seekable", lambda: False)():
        return
    file.seek(archive.offset)
    if any(file.read(BLOCK)):
        raise GftzooError(f"{plain(url)!r} is damaged at byte {archive.offset:,}; copy or pack it again.")


def naming_of(name: str, url: str) -> Naming:
    """How the members of a data set are named, from the first samples; UsageError if that is not to be seen."""
    seen: set[str] = set()
    for last_dot in (False, True):
        condition: Literal["class", "text"]
        for condition in ("class", "text"):
            naming = Naming(last_dot, condition)
            first = [sample for _, sample in islice(samples(url, naming), FIRST)]
            if any(naming.pair(sample) for sample in first):
                return naming
            seen.update(suffix for sample in first for suffix in sample)
    what = ", ".join(sorted(seen)[:10]) or "no members with a suffix"
    pictures = seen & set(picture_columns())
    missing = "label or caption" if pictures else "image"
    raise UsageError(
        f"data {name!r} has no {missing} column; it has {what}. A sample is an image (.png, .jpg, ...) and a class "
        "(.cls, .label) or a caption (.txt, .caption) with the same key."
    )


def text_of(content: bytes, member: str) -> str:
    """The text of a member, without the ends of its lines but for what parts them; GftzooError if it is no UTF-8."""
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise GftzooError(f"{plain(member)!r} of the data is no UTF-8 text ({error}); write it again.") from error


def why_incomplete(naming: Naming, key: str, sample: dict[str, Any], url: str) -> str:
    """What a sample lacks, for a person."""
    has_picture = any(suffix in sample for suffix in picture_columns())
    lacks = ("class" if naming.condition == "class" else "caption") if has_picture else "picture"
    return f"sample {plain(key)!r} of {plain(url)} has no {lacks}"
