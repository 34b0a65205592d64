"""What is on the hub as a folder on this machine, in the cache of the hub's own library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub  # which imports what is slow when it is asked for

from gftzoo.hub.address import HubAddress
from gftzoo.hub.sentences import endpoint, in_words, no_model

WHOLE, ADAPTER = "card.json", "adapter.safetensors"
FILES = (WHOLE, "raw.safetensors", "ema.safetensors", ADAPTER)  # all that is ever read of a repository


@dataclass(frozen=True)
class LocalCopy:
    """A model of the hub on this machine.

    Args:
        address: as it was asked for.
        folder: with the card and the weights.
        commit: of the repository.
    """

    address: HubAddress
    folder: Path
    commit: str

    @property
    def pinned(self) -> str:
        """The address of exactly these files, whatever is pushed there later."""
        return str(HubAddress(self.address.repo, self.address.folder, self.commit))

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from."""
        return {"hub": self.address.repo, "revision": self.commit} | (
            {"hub_folder": self.address.folder} if self.address.folder else {}
        )


def local_copy(address: HubAddress) -> LocalCopy:
    """The copy of a model on the hub, fetched where it is not there; without a network, what was fetched before.

    Raises:
        UsageError: there is no such repository, revision or folder, or it cannot be seen without logging in.
        GftzooError: the hub cannot be reached and the model was not fetched before.
    """
    inside = f"{address.folder}/" if address.folder else ""
    try:
        root = Path(
            huggingface_hub.snapshot_download(
                address.repo,
                revision=address.revision,
                allow_patterns=[f"{inside}{name}" for name in FILES],
                endpoint=endpoint(),
            )
        )
    except Exception as error:
        raise in_words(error, address) from error
    folder = root / address.folder
    if not any((folder / name).is_file() for name in (WHOLE, ADAPTER)):
        raise no_model(address)
    return LocalCopy(address, folder, root.name)
