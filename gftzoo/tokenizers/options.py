"""What a specification says of a tokenizer: its options, and the file of its weights."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub  # which imports what is slow when it is asked for

from gftzoo.catalogue.cards import Options, TokenizerSpec, validation_sentence
from gftzoo.errors import GftzooError, UsageError
from gftzoo.weights.fetching import download

LOCALLY = "-o tokenizer_path=PATH (train, cache) or --tokenizer-path PATH (sample, evaluate)"


def weights_file(spec: TokenizerSpec, weights: str | None) -> Path:
    """The file with a tokenizer's weights: the local one that the user names, or the published one.

    Raises:
        UsageError: no file is named.
        GftzooError: the file cannot be fetched.
    """
    if weights is not None:
        return Path(weights)
    advice = f"give a local file with {LOCALLY}"
    if spec.repo is None or spec.file is None:
        raise UsageError(f"tokenizer {spec.id!r} names no weights; {advice}.")
    try:
        if spec.repo.startswith("https://"):
            return download(f"{spec.repo}/{spec.file}")
        return Path(huggingface_hub.hf_hub_download(spec.repo, spec.file))
    except Exception as error:  # the hub client raises many types
        where = "the address" if spec.repo.startswith("https://") else "the hub repository"
        raise GftzooError(
            f"{spec.file!r} could not be fetched from {where} {spec.repo!r} ({type(error).__name__}); {advice}."
        ) from error


def read_tokenizer_options(spec: TokenizerSpec, schema: type[Options]) -> Options:
    """The spec's options, validated; UsageError with the nearest name for an unknown one."""
    try:
        return schema.model_validate(spec.options)
    except ValueError as error:
        raise UsageError(validation_sentence(f"tokenizer {spec.id}", error, schema)) from error
