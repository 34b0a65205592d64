"""The folder that is pushed: the model, what else was asked for, its scores, its pictures, and a README of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from gftzoo.adapters import merged
from gftzoo.catalogue.cards import Schedule
from gftzoo.engine.config import CONFIG_FILE, TrainConfig
from gftzoo.engine.record.folder import FINAL_PICTURE
from gftzoo.errors import UsageError
from gftzoo.evaluate import ScoreRecord, strip
from gftzoo.evaluate.subjects import network_sha256
from gftzoo.exporting import export
from gftzoo.model import Model
from gftzoo.pictures import save
from gftzoo.publishing.places import public
from gftzoo.publishing.readme import Story, readme
from gftzoo.weights import save_model

SHEET = "samples.png"
SHEET_BETAS, SHEET_SCALES = (1.0, 0.66, 0.5, 0.33), (1.0, 1.5, 2.0)
SHEET_COLUMNS = 10
STRIPS = ("samples/beta-strip.png", "samples/cfg-strip.png", FINAL_PICTURE)  # of a run, the most telling first


@dataclass(frozen=True)
class Publication:
    """What is pushed.

    Args:
        model: with its tokenizer, where something that is written needs it.
        source: the folder that it was loaded from.
        repo: `OWNER/NAME`, for the commands that the README shows.
        bake: a temperature to be folded into a plain network beside; None for no such variant.
        schedule: of the temperature that is folded; None is the card's.
        also: formats of `gftzoo export` beside.
        scores: records of these weights.
        licence: as the hub writes it; None for what is known of the weights.
    """

    model: Model
    source: Path
    repo: str
    bake: float | None = None
    schedule: Schedule | None = None
    also: tuple[str, ...] = ()
    scores: tuple[ScoreRecord, ...] = ()
    licence: str | None = None


def write_publication(about: Publication, folder: Path) -> list[str]:
    """Writes everything into an empty folder; returns the folders of the variants in it.

    Raises:
        UsageError: the family cannot bake or export what is asked for.
        GftzooError: the folder cannot be written.
    """
    model = public(about.model)
    save_model(merged(model), folder)
    variants = []
    foreign = model
    if about.bake is not None:
        foreign = model.bake(about.bake, about.schedule)
        variants.append(f"beta-{about.bake:g}")
        save_model(foreign, folder / variants[-1])
    for form in about.also:
        export(model if form == "adapter" else foreign, form, folder / form)
        variants.append(form)
    for record in about.scores:
        record.write(folder / "scores" / f"{name_of(record)}.json")
    sheet = write_sheet(about, folder / SHEET)
    story = Story(replace(about.model, card=model.card, provenance=model.provenance), about.repo, config_of(about))
    text = readme(story, about.scores, variants, about.licence, SHEET if sheet else None)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return variants


def config_of(about: Publication) -> TrainConfig | None:
    """The configuration of the run that is pushed; None of a folder that is no run."""
    return TrainConfig.read(about.source) if (about.source / CONFIG_FILE).is_file() else None


def name_of(record: ScoreRecord) -> str:
    """A file's name for a record, no two of one push alike but for the same measurement."""
    subject, measure = record.subject, record.measure
    strength = "" if subject.strength is None else f"-{subject.strength:g}"
    return f"{measure.protocol}-{subject.guidance}{strength}-{measure.images}-seed{subject.seed}".replace("/", "-")


def write_sheet(about: Publication, path: Path) -> bool:
    """Writes a sheet of samples: the run's own strip, or one that is drawn; False where neither can be had."""
    for name in STRIPS:
        if (about.source / name).is_file():
            with Image.open(about.source / name) as picture:
                picture.convert("RGB").save(path)  # the picture alone, and not what its file says
            return True
    model = about.model
    if model.card.condition == "text" or model.tokenizer is None:
        return False
    steered = model.card.temperature
    guides = [model.guidance(beta=b) for b in SHEET_BETAS] if steered else [model.guidance(cfg=s) for s in SHEET_SCALES]
    guides = guides if model.baked_beta is None else guides[:1]
    save(strip(model, guides, model.card.drawn_classes[:SHEET_COLUMNS]), path)
    return True


def read_scores(paths: Sequence[Path], model: Model) -> tuple[ScoreRecord, ...]:
    """The score records in files, and in folders of such.

    Raises:
        UsageError: a folder has none, or a record is of other weights.
        GftzooError: a file is none or damaged.
    """
    records = []
    own = network_sha256(model.network) if paths else ""
    for path in paths:
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"there is no score record in {str(path)!r}; `gftzoo evaluate RUN --out FILE` writes one.")
        for file in files:
            record = ScoreRecord.read(file)
            if record.subject.weights_sha256 != own:
                raise UsageError(
                    f"{str(file)!r} is a score of other weights ({str(record.subject.weights_sha256)[:12]}) than these "
                    f"({own[:12]}); score these with `gftzoo evaluate`."
                )
            records.append(record)
    return tuple(records)
