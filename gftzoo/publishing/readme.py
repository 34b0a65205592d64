"""The README of a model on the hub: a header that the hub reads, and what people want to know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import huggingface_hub  # which imports what is slow when it is asked for
import yaml

from gftzoo import __version__
from gftzoo.engine.config import TrainConfig
from gftzoo.evaluate import ScoreRecord
from gftzoo.evaluate.records import score_names
from gftzoo.hub import address_of
from gftzoo.model import Model
from gftzoo.printing import LONGEST_NAME, plain
from gftzoo.publishing.places import without_places

# Identifiers of the hub for what the catalogue says; anything else is `other`, with its name.
LICENCES = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0", "creativeml-openrail-m", "bsd-3-clause"}
NOT_TOLD = {"card", "model", "tokenizer_path", "device", "workers", "trackers", "weights"}
METRICS = {"frechet": "fid", "inception_score": "inception-score"}


@dataclass(frozen=True)
class Story:
    """What the README tells of.

    Args:
        model: with a card and a provenance that may be shown.
        repo: `OWNER/NAME`.
        config: of the run that trained it, where it is there.
    """

    model: Model
    repo: str
    config: TrainConfig | None

    @property
    def task(self) -> str:
        """The hub's word for what it does."""
        return "text-to-image" if self.model.card.condition == "text" else "unconditional-image-generation"

    @property
    def base(self) -> str | None:
        """The repository on the hub whose weights the run started from; None where it started from none of the hub."""
        weights = self.config.weights if self.config else None
        address = address_of(weights)
        if address is not None:
            return address.repo
        published = self.model.card.checkpoints.get(weights or "")
        return published.repo if published and not published.repo.startswith("https:") else None

    @property
    def licence(self) -> str:
        """Of the weights that the run started from, else of the model's card."""
        published = self.model.card.checkpoints.get((self.config.weights if self.config else None) or "")
        return published.licence if published else self.model.card.licence


def readme(
    story: Story, scores: Sequence[ScoreRecord], variants: Sequence[str], licence: str | None, sheet: str | None
) -> str:
    """The text of README.md.

    Args:
        story: what it tells of.
        scores: records that go with the weights.
        variants: folders beside the model itself.
        licence: the user's word for it; None takes what is known of the weights.
        sheet: the picture's name in the repository, where there is one.
    """
    card = story.model.card
    parts = [f"---\n{header(story, scores, licence or story.licence)}\n---\n", f"# {story.repo.partition('/')[2]}\n"]
    parts.append(introduction(story))
    if sheet:
        parts.append(f"![Samples: the same seeds in every row]({sheet})\n")
    parts.append(usage(story, variants))
    parts += [f"## Recipe\n\n```yaml\n{recipe(story.config)}```\n"] if story.config else []
    parts += [f"## Scores\n\n{score_table(scores)}\n"] if scores else []
    if card.paper:
        parts.append(f"Model: {plain(card.paper, LONGEST_NAME)}.\n")
    return "\n".join(parts)


def header(story: Story, scores: Sequence[ScoreRecord], licence: str) -> str:
    """The metadata that the hub indexes, YAML."""
    known = licence.lower() if licence.lower() in LICENCES else "other"
    name: dict[str, Any] = (
        {"license_name": re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")} if known == "other" else {}
    )
    data = huggingface_hub.ModelCardData(
        license=known,
        library_name="gftzoo",
        pipeline_tag=story.task,
        base_model=story.base,
        tags=["gftzoo", story.model.card.family, *(["guidance-free"] if story.model.card.temperature else [])],
        model_name=story.repo.partition("/")[2] if scores else None,
        eval_results=[result for record in scores for result in results(story, record)] or None,
        **name,
    )
    return str(data.to_yaml()).strip()


def results(story: Story, record: ScoreRecord) -> list[huggingface_hub.EvalResult]:
    """The scores of a record as the hub has them, each with what it depends on."""
    names, measure = score_names(record), record.measure
    steered = guidance_of(record)
    return [
        huggingface_hub.EvalResult(
            task_type=story.task,
            dataset_type=plain(measure.reference, LONGEST_NAME),
            dataset_name=plain(measure.reference, LONGEST_NAME),
            metric_type=METRICS.get(key, key),
            metric_value=round(value, 4),
            metric_name=f"{names.get(key, key)} ({steered}, {measure.images:,} images, protocol {measure.protocol})",
        )
        for key, value in record.scores.model_dump().items()
        if value is not None and not key.endswith("_std")
    ]


def guidance_of(record: ScoreRecord) -> str:
    """`beta 0.5`, `cfg 2` or `unguided`."""
    strength = record.subject.strength
    return record.subject.guidance if strength is None else f"{record.subject.guidance} {strength:g}"


def introduction(story: Story) -> str:
    """What the model is, in a paragraph."""
    model, card = story.model, story.model.card
    what = f"`{card.name}` ({card.summary})" if card.summary else f"`{card.name}`"
    if card.temperature:
        how = "trained guidance-free ([GFT](https://arxiv.org/abs/2501.15420)): one pass a step, steered by `beta`"
    elif model.baked_beta is not None:
        how = f"a plain network with beta {model.baked_beta:g} folded into its weights: one pass a step"
    else:
        how = "a plain conditional network, steered by classifier-free guidance"
    seen = "prompts" if card.condition == "text" else f"{card.classes:,} classes"
    base = f" It started from `{story.base}`." if story.base else ""
    return (
        f"{what}, {how}. {card.resolution} px, {card.parameters / 1e6:,.1f}M parameters, {seen}; "
        f"{model.weights_in_words}, written by gftzoo {__version__}.{base}\n"
    )


def usage(story: Story, variants: Sequence[str]) -> str:
    """Commands and Python that use it."""
    card = story.model.card
    steer = "beta=0.5, " if card.temperature else "" if story.model.baked_beta is not None else "cfg=1.5, "
    option = f" --{steer.rstrip(', ').replace('=', ' ')}" if steer else ""
    condition, prompt = ('["a red fox"]', " --prompt 'a red fox'") if card.condition == "text" else ("[0, 1]", "")
    address = f"hub:{story.repo}"
    lines = [
        "## Use\n",
        "```python",
        "import gftzoo\n",
        f'model = gftzoo.load("{address}")',
        f"images = model.sample({condition}, {steer}seed=0)  # (N, 3, H, W) in [0, 1]",
        "```\n",
        "```sh",
        f"gftzoo sample {address}{option}{prompt}",
        f"gftzoo train {card.name} --gft --weights {address}",
        "```\n",
    ]
    lines += [f"- {said}" for said in (variant(folder, address) for folder in variants)]
    return "\n".join(lines) + "\n"


def variant(folder: str, address: str) -> str:
    """What a folder beside the model is for."""
    if folder.startswith("beta-"):
        beta = folder.removeprefix("beta-")
        return f'`{folder}/`: a plain network with beta {beta} in its weights, `gftzoo.load("{address}/{folder}")`.'
    if folder == "diffusers":
        return "`diffusers/`: a pipeline for diffusers, `DiffusionPipeline.from_pretrained` of that folder."
    return f"`{folder}/`: the model as `gftzoo export --to {folder}` writes it."


def recipe(config: TrainConfig) -> str:
    """What decided the weights, YAML; no place of the machine that trained them is in it."""
    told = config.model_dump(mode="json", exclude=NOT_TOLD, exclude_defaults=True)
    return yaml.safe_dump(without_places({"model": config.model, **told}), sort_keys=False)


def score_table(records: Sequence[ScoreRecord]) -> str:
    """A row per record; the records themselves are in `scores/`."""
    keys = [k for k in records[0].scores.model_dump() if not k.endswith("_std")]
    kept = [key for key in keys if any(getattr(record.scores, key) is not None for record in records)]
    names = score_names(records[0])
    head = ["guidance", "images", "protocol", *(names.get(key, key.replace("_", " ")) for key in kept)]
    rows = [head, ["---"] * len(head)]
    for record in records:
        numbers = [getattr(record.scores, key) for key in kept]
        shown = ["" if number is None else f"{number:.4g}" for number in numbers]
        rows.append([guidance_of(record), f"{record.measure.images:,}", record.measure.protocol, *shown])
    table = "\n".join(f"| {' | '.join(cell.replace('|', ' ') for cell in row)} |" for row in rows)
    return f"{table}\n\nEach is a record with everything it depends on, in `scores/`."
