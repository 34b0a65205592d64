"""A score is a record: everything its number depends on stands beside it, and unlike records are not compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from gftzoo.atomic import written_whole
from gftzoo.catalogue.cards import Frozen, validation_sentence
from gftzoo.documents import read_json
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.scoring import Scores
from gftzoo.evaluate.subjects import Subject

LIBRARIES = (
    "gftzoo",
    "torch",
    "torchmetrics",
    "torch-fidelity",
    "timm",
    "diffusers",
    "transformers",
    "numpy",
    "pillow",
)


class Measure(Frozen):
    """How images are scored. Records that differ in any of this measure different things."""

    protocol: str = Field(description="adm, coco, embedded, or a name of one's own")
    distance_name: str = Field(description="FID for InceptionV3, FD-<network> for any other")
    features: str = Field(description="feature network")
    features_sha256: str
    reference: str = Field(description="what the images are compared with")
    reference_sha256: str
    images: int = Field(description="number of images scored")
    class_plan: str = Field(description="which classes the images have, e.g. balanced")
    image_format: str = "uint8 RGB, rounded to nearest"
    splits: int = Field(10, description="splits of the Inception Score")
    neighbours: int = Field(3, description="k of precision and recall")
    prompt_encoder: str | None = Field(None, description="CLIP model of CLIP score and prompt agreement")
    prompt_encoder_sha256: str | None = None
    kept_features: int = Field(description="features used for kernel distance, precision and recall")


class ScoreRecord(Frozen):
    """Scores with all they depend on."""

    measure: Measure
    subject: Subject
    scores: Scores
    passes: int | None = Field(None, description="network rows per image and sampler step")
    seconds_per_image: float | None = Field(None, description="of sampling, in the fastest batch")
    versions: dict[str, str] = {}

    def write(self, path: Path) -> None:
        """Writes the record as JSON, whole or not at all; DiskError where the disk does not take it."""
        with written_whole(path) as partial:
            partial.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> ScoreRecord:
        """A record from disk; GftzooError if there is none or it is damaged."""
        if not path.is_file():
            raise GftzooError(f"there is no score record {str(path)!r}.")
        found = read_json(path)
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise GftzooError(validation_sentence(str(path), error)) from error


def compare(records: Sequence[ScoreRecord]) -> list[dict[str, Any]]:
    """One row per record: what differs between the subjects, then the scores.

    Raises:
        UsageError: two records were measured differently; names the first difference.
    """
    for record in records[1:]:
        refuse_mixing(records[0].measure, record.measure)
    subjects = [record.subject.model_dump(mode="json") for record in records]
    differing = [key for key in Subject.model_fields if len({json.dumps(s[key], sort_keys=True) for s in subjects}) > 1]
    keys = ["model", *(key for key in differing if key != "model")]
    rows = []
    for record, subject in zip(records, subjects, strict=True):
        scores = {score_names(record).get(k, k): v for k, v in record.scores.model_dump().items() if v is not None}
        rows.append({**{key: subject[key] for key in keys}, **scores})
    return rows


def refuse_mixing(a: Measure, b: Measure) -> None:
    """UsageError if the two measures are not the same."""
    for field in Measure.model_fields:
        one, other = getattr(a, field), getattr(b, field)
        if one != other:
            raise UsageError(
                f"scores of different protocols are not compared: {field} is {_short(one)} in one and {_short(other)} "
                "in the other; score both the same way with `gftzoo evaluate`."
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:16]}...'"


def score_names(record: ScoreRecord) -> dict[str, str]:
    """What the scores are called: FID, sFID, KID and IS only with InceptionV3's features."""
    clip = {"clip_score": f"CLIP-{record.measure.prompt_encoder}"} if record.measure.prompt_encoder else {}
    if record.measure.distance_name == "FID":
        return clip | {"frechet": "FID", "frechet_spatial": "sFID", "kernel": "KID", "inception_score": "IS"}
    name = record.measure.features
    return clip | {"frechet": f"FD-{name}", "kernel": f"KD-{name}", "inception_score": f"IS-{name}"}


def library_versions(extra: Sequence[str] = ()) -> dict[str, str]:
    """The versions of the libraries that numbers depend on, and of `extra` distributions."""
    found: Mapping[str, str | None] = {name: _version(name) for name in (*LIBRARIES, *extra)}
    return {name: value for name, value in found.items() if value}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
