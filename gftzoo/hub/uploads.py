"""A folder put into a repository of the hub, in one commit."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub  # which imports what is slow when it is asked for

from gftzoo.hub.sentences import endpoint, not_uploaded

# What an earlier push may have left and this one has not; everything else in the repository is its owner's.
OURS = [
    *("raw.safetensors", "ema.safetensors", "samples.png", "scores/*.json"),
    *("beta-*/*", "diffusers/*", "official/*", "safetensors/*", "adapter/*"),
]


def refuse_without_login(repo: str) -> None:
    """UsageError where the hub does not know who pushes, GftzooError where it cannot be reached.

    To be called before anything that takes its time.
    """
    try:
        huggingface_hub.HfApi(endpoint=endpoint()).whoami()
    except Exception as error:
        raise not_uploaded(error, repo) from error


def upload(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Makes the repository if it is not there, puts the folder into it, and returns the commit.

    Files that an earlier push left and this one has not are taken away with it.

    Raises:
        UsageError: not logged in, or not allowed to write there.
        GftzooError: the hub cannot be reached, or refuses.
    """
    api = huggingface_hub.HfApi(endpoint=endpoint())
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message, delete_patterns=OURS)
    except Exception as error:
        raise not_uploaded(error, repo) from error
    return str(done.oid)
