"""What `gftzoo push` does: a model with its card, scores and pictures, put on the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from gftzoo.atomic import folder_written_whole
from gftzoo.cli.transfer import refuse_existing
from gftzoo.errors import UsageError
from gftzoo.hub import refuse_no_repository, refuse_without_login, upload
from gftzoo.loading import load
from gftzoo.printing import plain, say
from gftzoo.publishing import Publication, read_scores, write_publication


def push(model: str, repo: str, out: Path | None, private: bool, message: str | None, **options: Any) -> None:
    """Push RUN (a run, or a folder with a model) to the Hugging Face Hub as OWNER/NAME."""
    repo = refuse_no_repository(repo)
    if not Path(model).is_dir():
        raise UsageError(f"{plain(model)!r} is no folder; push a run, or what `gftzoo export` wrote.")
    if out is not None:
        refuse_existing(out)
        with folder_written_whole(out) as folder:
            write_publication(publication(model, repo, options), folder)
        say(f"{out}: what `gftzoo push {plain(model)} {repo}` would push.", err=True)
        return
    refuse_without_login(repo)
    about = publication(model, repo, options)
    with tempfile.TemporaryDirectory() as folder:
        write_publication(about, Path(folder))
        said = message or f"{about.model.card.name}, {about.model.weights_in_words}"
        commit = upload(Path(folder), repo, private=private, message=plain(said))
    say(f"Pushed {plain(model)} to hub:{repo}@{commit}; `gftzoo sample hub:{repo}` takes it from there.", err=True)


def publication(model: str, repo: str, options: dict[str, Any]) -> Publication:
    """What the options say is pushed; UsageError for scores of other weights."""
    loaded = load(model, entry=options["entry"], tokenizer_path=options["tokenizer_path"])
    return Publication(
        model=loaded,
        source=Path(model),
        repo=repo,
        bake=options["bake"],
        schedule=options["schedule"],
        also=tuple(dict.fromkeys(options["also"])),
        scores=read_scores(options["scores"], loaded),
        licence=options["licence"],
    )
