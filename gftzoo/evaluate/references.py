"""What generated images are compared with: a statistics file, a folder of images, or a data source's held-out split."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gftzoo.data import Split, open_source
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.features import FeatureNetwork, Inception
from gftzoo.evaluate.images import file_batches, image_count, is_folder, left_out_of, source_batches
from gftzoo.evaluate.metrics import Gaussian
from gftzoo.evaluate.npz import npz_names, npz_statistics
from gftzoo.evaluate.scoring import FeatureSummary, summarize
from gftzoo.weights import sha256


@dataclass(frozen=True)
class Reference:
    """The summary of real images, with a name and a hash of what it was made from."""

    name: str
    sha256: str
    summary: FeatureSummary


def scored_split(source: str) -> Split:
    """The split that a model is scored with, prompts and pictures: the one that training has not seen.

    Where captions are names it is the train split, since a name says nothing to a model that has not met it.
    """
    return "train" if open_source(source, "held-out").named else "held-out"


def of_source(spec: str) -> tuple[str, Split] | None:
    """The data source that a reference names and its part, `data:` what is scored with, `all:` the whole; else None."""
    kind, _, source = spec.partition(":")
    if kind == "all":
        return source, "all"
    return (source, scored_split(source)) if kind == "data" else None


def check_reference(spec: str) -> None:
    """UsageError for a reference that is not there, or whose data has no images for it; nothing of it is scored."""
    if of_source(spec) is None and not is_folder(Path(spec)) and not _is_npz(Path(spec)):
        raise UsageError(
            f"there is no reference {spec!r}; give an ADM .npz, a folder of images, data:SOURCE or all:SOURCE."
        )


def _is_npz(path: Path) -> bool:
    return path.suffix == ".npz" and path.is_file()


def open_reference(
    spec: str,
    network: FeatureNetwork,
    resolution: int | None = None,
    keep: int = 10_000,
    split: Split | None = None,
) -> Reference:
    """The reference that `spec` names.

    Args:
        spec: an `.npz` with ADM's statistics (mu, sigma, and mu_s, sigma_s for sFID) or images (arr_0) or both, a
            folder of images, `data:SOURCE` (its `split`, by default `scored_split`), or `all:SOURCE`.
        network: for the features of images; precomputed statistics are InceptionV3's and refuse any other network.
        resolution: side to which the images of a data source are brought.
        keep: features kept for kernel distance, precision and recall.
    """
    named = of_source(spec)
    if named is not None:
        return _from_source(named[0], network, resolution, keep, split or named[1])
    check_reference(spec)
    path = Path(spec)
    return _from_npz(path, network, keep) if _is_npz(path) else _from_folder(path, network, keep)


def _from_source(spec: str, network: FeatureNetwork, resolution: int | None, keep: int, split: Split) -> Reference:
    source = open_source(spec, split)
    digest = hashlib.sha256()
    summary = summarize(network, _hashed(source_batches(source, resolution), digest), len(source), keep=keep, shuffle=0)
    if source.unreadable:  # each was replaced by its neighbour
        raise GftzooError(
            f"{len(source.unreadable)} pictures of the reference {spec!r} turned out damaged while it was read, e.g. "
            f"{next(iter(source.unreadable.values()))}; add #check=full to its name, which leaves them out beforehand."
        )
    if source.problems:
        logging.getLogger("gftzoo.evaluate").warning(
            "%d pictures of the reference %s cannot be read and are left out, e.g. %s.",
            *(len(source.problems), spec, source.problems[0]),
        )
    return Reference(f"{spec} {split} ({len(source)} images)", digest.hexdigest(), summary)


def _from_folder(path: Path, network: FeatureNetwork, keep: int) -> Reference:
    digest = hashlib.sha256()
    total = image_count(path)
    for line in left_out_of(path):
        logging.getLogger("gftzoo.evaluate").warning("Reference %s: %s.", path, line)
    summary = summarize(network, _hashed(file_batches(path), digest), total, keep=keep, shuffle=0)
    return Reference(f"{path.name} ({total} images)", digest.hexdigest(), summary)


def _hashed(
    batches: Iterable[tuple[Tensor, Sequence[int] | None]], digest: hashlib._Hash
) -> Iterator[tuple[Tensor, Sequence[int] | None]]:
    for images_BCHW, labels in batches:
        digest.update(images_BCHW.contiguous().numpy().data)
        yield images_BCHW, labels


def _from_npz(path: Path, network: FeatureNetwork, keep: int) -> Reference:
    names = npz_names(path)
    statistics = npz_statistics(path)
    if not {"mu", "sigma"} <= names and "arr_0" not in names:
        raise GftzooError(f"{str(path)!r} holds neither mu and sigma nor arr_0 (it has {', '.join(sorted(names))}).")
    summary = None
    if "arr_0" in names:
        total = image_count(path)
        summary = summarize(network, file_batches(path), total, keep=keep)
    if {"mu", "sigma"} <= names:
        _refuse_foreign(path, network)
        # The count of a statistics file is not recorded: ADM's come from the whole training set, arr_0 is a part of it.
        pooled = Gaussian(statistics["mu"], statistics["sigma"], 0)
        has_spatial = {"mu_s", "sigma_s"} <= names
        spatial = Gaussian(statistics["mu_s"], statistics["sigma_s"], 0) if has_spatial else None
        summary = FeatureSummary(pooled, spatial, summary.sample_MD if summary else None)
    assert summary is not None
    return Reference(path.name, sha256(path), summary)


def _refuse_foreign(path: Path, network: FeatureNetwork) -> None:
    if not isinstance(network, Inception):
        raise UsageError(
            f"the statistics in {str(path)!r} are InceptionV3's and the feature network is {network.name}; "
            "use --features inception, or a reference with images."
        )
