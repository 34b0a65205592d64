"""The shards that a stream's URL names: a file, a folder, a glob, a range in braces, or a cache."""

from __future__ import annotations

import re

from fsspec.core import url_to_fs

from gftzoo.data.hub import reason
from gftzoo.data.manifest import MANIFEST_FILE, Manifest
from gftzoo.documents import JSON, parse_json
from gftzoo.errors import GftzooError, UsageError

KINDS = {".parquet": "parquet", ".tar": "webdataset"}
RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
MOST = 1_000_000  # shards of a range
CHANGES = ("size", "mtime", "created", "ETag", "LastModified", "etag", "updated")  # what file systems say of a file


def kind_of(name: str, shards: list[str]) -> str:
    """What all shards are; GftzooError for none, or for several kinds."""
    if not shards:
        raise GftzooError(
            f"data {name!r} names no file; write a folder, a glob such as *.parquet, or part-{{00..15}}.tar."
        )
    kinds = {next((kind for suffix, kind in KINDS.items() if url.lower().endswith(suffix)), url) for url in shards}
    if len(kinds) != 1 or not kinds <= set(KINDS.values()):
        raise GftzooError(f"data {name!r} holds {', '.join(sorted(kinds)[:3])}; valid are only .parquet or only .tar.")
    return kinds.pop()


def find_shards(argument: str) -> tuple[list[str], Manifest | None]:
    """The URLs of the shards, and the manifest where they are a cache's."""
    ranged = RANGE.search(argument)
    if ranged:
        width, first, last = len(ranged[1]), int(ranged[1][:20]), int(ranged[2][:20])
        if not first <= last < first + MOST:
            raise UsageError(
                f"the range {ranged[0]} of {argument!r} has {max(0, last - first + 1):,} shards; a range goes up, over "
                f"at most {MOST:,} numbers."
            )
        numbers = range(first, last + 1)
        return [argument[: ranged.start()] + f"{n:0{width}d}" + argument[ranged.end() :] for n in numbers], None
    try:
        files, path = url_to_fs(argument)
        if "*" in argument or "?" in argument:
            return sorted(files.unstrip_protocol(found) for found in files.glob(path)), None
        if not files.isdir(path):
            return [files.unstrip_protocol(path)] if files.exists(path) else [], None
        folder = files.unstrip_protocol(path).rstrip("/")
        if files.exists(f"{path.rstrip('/')}/{MANIFEST_FILE}"):
            return _cache_shards(folder, files.cat_file(f"{path.rstrip('/')}/{MANIFEST_FILE}", 0, JSON.bytes + 1))
        found = [files.unstrip_protocol(entry) for entry in files.find(path)]
        return sorted(url for url in found if url.lower().endswith(tuple(KINDS))), None
    except GftzooError:
        raise
    except Exception as error:  # every protocol has its own
        raise unreadable(argument, error) from error


def _cache_shards(folder: str, content: bytes) -> tuple[list[str], Manifest]:
    where = f"{folder}/{MANIFEST_FILE}"
    manifest = Manifest.checked(parse_json(content.decode("utf-8", "replace"), repr(where)), where)
    if not manifest.shards:
        raise GftzooError(f"cache {folder!r} is not complete; go on with the `gftzoo cache` that began it.")
    return [f"{folder}/{shard.file}" for shard in manifest.shards], manifest


def unreadable(url: str, error: Exception) -> GftzooError:
    """What to say where an address cannot be read."""
    return GftzooError(f"{url!r} could not be read ({reason(error)}); check the address and its access.")


def state_of(url: str) -> str | None:
    """Changes whenever a shard does; None where its file system does not say."""
    try:
        files, path = url_to_fs(url)
        about = files.info(path)
    except Exception:  # every protocol has its own, and reading the shard tells more
        return None
    said = {key: str(about[key]) for key in CHANGES if about.get(key) is not None}
    return f"{url} {said}" if len(said) > 1 else None
