"""Published weights, fetched into the caches of the libraries that know their hosts."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub  # which imports what is slow when it is asked for
import torch

from gftzoo.catalogue.cards import Checkpoint
from gftzoo.errors import GftzooError, UsageError


def fetch(checkpoint: Checkpoint) -> Path:
    """The local file of a checkpoint: in a folder here, or fetched from the hub or an https address into the cache.

    Raises GftzooError that says how to go on where it cannot be fetched.
    """
    repo, file = checkpoint.repo, checkpoint.file
    if file is None:
        raise UsageError(f"the weights in {repo!r} are a folder; give its local path.")
    if Path(repo, file).is_file():
        return Path(repo, file)
    try:
        if repo.startswith("https://"):
            return download(f"{repo}/{file}")
        return Path(huggingface_hub.hf_hub_download(repo, file, revision=checkpoint.revision))
    except Exception as error:
        revision = f" at revision {checkpoint.revision}" if checkpoint.revision else ""
        note = f" ({checkpoint.note})" if checkpoint.note else ""
        raise GftzooError(
            f"{file!r} could not be fetched from {repo!r}{revision} ({type(error).__name__}); "
            f"download it where there is a network and give its path with --weights PATH{note}."
        ) from error


def download(url: str) -> Path:
    """The local file of an address, which is fetched if it is not in torch's cache."""
    target = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not target.is_file():  # it appears there only when it is complete
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target))
    return target
