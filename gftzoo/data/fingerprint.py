"""What a data source holds, in a few lines that can be kept and compared: classes, counts, and hashes of its content.

Everything is hashed where that is little; of large data the names and sizes of all files, evenly spaced samples, and
the change times of all files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Literal

import fsspec

from gftzoo.catalogue.cards import Frozen
from gftzoo.data.cache import CacheSource
from gftzoo.data.hub import reason
from gftzoo.data.picture import UnreadableError
from gftzoo.data.sources import Source
from gftzoo.data.stream import StreamSource
from gftzoo.errors import GftzooError

SAMPLES = 1024  # images of which the content is hashed
SHARDS = 16  # of a stream, which is read over a network
END = 2**18  # bytes hashed at either end of a file; one of up to twice as many is hashed whole


class Fingerprint(Frozen):
    """A data source at one moment; two that hold the same have equal `classes`, `counts`, `images` and `content`.

    `times` is of the change times of files, and empty where `content` is of every byte. A copy of the data may have
    other times and an equal content.
    """

    condition: Literal["class", "text"]
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # images of each class; empty for captions and streams
    images: int | None  # None for a stream
    content: str
    times: str

    @property
    def key(self) -> str:
        """All of it in one short hash, that changes whenever any of it does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def fingerprint_of(source: Source) -> Fingerprint:
    """The fingerprint of an opened source. Reads up to a thousand of its images, and of a stream some shards' ends.

    Raises GftzooError where a shard of a stream cannot be read.
    """
    images: int | None = None
    counts: tuple[int, ...] = ()
    if isinstance(source, StreamSource):
        content, times = _of_stream(source)
    else:
        content, times = _of_shards(source) if isinstance(source, CacheSource) else _of_rows(source)
        images, counts = len(source), class_counts(source)
    return Fingerprint(
        condition=source.condition,
        classes=source.class_names if source.condition == "class" else (),
        counts=counts,
        images=images,
        content=content,
        times=times,
    )


def class_counts(source: Source) -> tuple[int, ...]:
    """Images of each class, in the order of the classes; empty where images have captions."""
    if source.condition != "class":
        return ()
    rows = source.labels.tolist() if isinstance(source, CacheSource) else map(source.condition_of, range(len(source)))
    found = Counter(rows)
    return tuple(found[index] for index in range(len(source.class_names)))


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices below `length`, evenly spaced."""
    count = min(length, count)
    return [index * length // count for index in range(count)]


def _of_rows(source: Source) -> tuple[str, str]:
    rows = spread(len(source), SAMPLES)
    digest = hashlib.sha256(f"{len(source)} {source.listing}".encode())
    whole = len(rows) == len(source)
    for row in rows:
        content, complete = _read(source, row)
        digest.update(f"\n{source.condition_of(row)} {len(content)} ".encode(errors="surrogatepass") + content)
        whole = whole and complete
    return digest.hexdigest()[:32], "" if whole else source.times


def _read(source: Source, row: int) -> tuple[bytes, bool]:
    """Both ends of what is stored of an image, and whether that is all of it."""
    try:
        stored = source.stored(row)
        if isinstance(stored, bytes):
            return stored, True
        with stored.open("rb") as file:
            content = file.read(2 * END + 1)
            if len(content) <= 2 * END:
                return content, True
            file.seek(-END, 2)
            return content[:END] + file.read(), False
    except (OSError, UnreadableError):  # missing or not allowed, which the source tells of by itself
        return b"", True


def _of_shards(source: CacheSource) -> tuple[str, str]:
    listing = "\n".join(f"{shard.sha256} {shard.rows}" for shard in source.manifest.shards)
    return hashlib.sha256(listing.encode()).hexdigest()[:32], ""


def _of_stream(source: StreamSource) -> tuple[str, str]:
    """Of a cache what its manifest says; of other shards names, and sizes and ends of some."""
    if source.manifest is not None:
        listing = "\n".join(f"{shard.sha256} {shard.rows}" for shard in source.manifest.shards)
        return hashlib.sha256(listing.encode()).hexdigest()[:32], ""
    names = [shard.rpartition("/")[2] for shard in source.shards]
    content, times = hashlib.sha256("\n".join(names).encode()), hashlib.sha256()
    for number in spread(len(source.shards), SHARDS):
        ends, changed = _look_at(source.shards[number])
        content.update(ends)
        times.update(changed)
    return content.hexdigest()[:32], times.hexdigest()[:32]


def _look_at(shard: str) -> tuple[bytes, bytes]:
    """Size and ends of a shard, and when it changed."""
    try:
        files, path = fsspec.url_to_fs(shard)
        size = files.size(path) or 0
        ends = files.cat_file(path, 0, min(size, END)) + files.cat_file(path, max(size - END, 0), size)
        try:
            changed = str(files.modified(path))
        except NotImplementedError:  # of https
            changed = ""
    except Exception as error:  # every protocol has its own
        raise GftzooError(
            f"{shard!r} could not be read ({reason(error)}); check the address and its access."
        ) from error
    return f"\n{size} ".encode() + ends, f"\n{changed}".encode()
