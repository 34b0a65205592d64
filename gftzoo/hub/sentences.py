"""What can go wrong with the hub, in sentences."""

from __future__ import annotations

import os

from gftzoo.errors import GftzooError, UsageError
from gftzoo.hub.address import HubAddress

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def endpoint() -> str | None:
    """The hub's address where HF_ENDPOINT names another one than the public."""
    return os.environ.get("HF_ENDPOINT") or None


def in_words(error: Exception, address: HubAddress) -> GftzooError:
    """A failure of reading from the hub as a sentence with the next step."""
    kinds = _kinds(error)
    if "GatedRepoError" in kinds:
        return UsageError(f"{address} is gated; ask for access on its page, then {LOGIN}.")
    if "RevisionNotFoundError" in kinds:
        return UsageError(f"{address.repo!r} has no revision {address.revision!r}; leave it out for the newest.")
    if "RepositoryNotFoundError" in kinds or status(error) in (401, 403):
        return UsageError(f"there is no {address}, or it is private; check the name, or {LOGIN}.")
    if status(error) is None:
        return GftzooError(
            f"{address} was not fetched before and the hub cannot be reached{_where()}; fetch it where there is a "
            "network, and give the path of its folder."
        )
    return GftzooError(f"the hub did not give {address} (HTTP {status(error)}); try again later.")


def not_uploaded(error: Exception, repo: str) -> GftzooError:
    """A failure of writing to the hub as a sentence with the next step."""
    if "LocalTokenNotFoundError" in _kinds(error) or status(error) == 401:
        return UsageError(f"the hub does not know you, and {repo!r} is to be written there; {LOGIN}.")
    if status(error) == 403:
        return UsageError(
            f"you may not write to {repo!r}; name a repository of your own, or {LOGIN} with such a token."
        )
    if status(error) == 404:
        return UsageError(f"there is no user or organisation {repo.partition('/')[0]!r} that you may write to.")
    if status(error) is None:
        return GftzooError(f"the hub cannot be reached{_where()}, so that {repo!r} is as it was; push again later.")
    return GftzooError(f"the hub refused {repo!r} (HTTP {status(error)}), which is as it was; push again later.")


def no_model(address: HubAddress) -> UsageError:
    """For a repository without a model of gftzoo's in it."""
    return UsageError(
        f"{address} holds no gftzoo model (no card.json); official weights are named by --weights and a checkpoint of "
        "the model's card, or by the path of their file."
    )


def status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, if the hub answered at all."""
    while error is not None:
        found = getattr(getattr(error, "response", None), "status_code", None)
        if found is not None:
            return int(found)
        error = error.__cause__
    return None


def _kinds(error: Exception) -> set[str]:
    """The names of an error's classes; those of the hub's library take their time to import."""
    return {kind.__name__ for kind in type(error).__mro__}


def _where() -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return " (HF_HUB_OFFLINE is set)"
    return "" if endpoint() is None else f" at {endpoint()}"
