"""The page of `gftzoo demo`: two sheets of the same seeds side by side, each with a model and a temperature.

Pictures travel inside the page's own answers, so that no file is served; nothing is uploaded, and one visitor draws at
a time while the others wait in a queue of bounded length.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL.Image import Image

from gftzoo.demo.drawing import CFG_TIMED, Drawn, Limits, Shown, Wish, compare_with_cfg, draw, label, wanted
from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import plain

FONTS = ["system-ui", "sans-serif"]  # of the visitor's system: nothing is fetched from elsewhere
TITLE = "gftzoo"
HEAD = """# gftzoo demo
The same seeds in both sheets. A model trained guidance-free takes one pass of its network a step at every `beta`;
classifier-free guidance takes two.
"""
STYLE = """
.sheet img {image-rendering: pixelated; max-width: 100%; min-width: min(100%, 20rem);}
.sheet a {display: inline-block; margin: .5rem 0;}
footer {display: none !important;}
"""
NONE = "<p>Nothing drawn yet.</p>"


@dataclass(frozen=True)
class Side:
    """The controls of one sheet."""

    model: gr.Dropdown
    beta: gr.Slider
    scale: gr.Slider
    sheet: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        """What its sheet depends on."""
        return [self.model, self.beta, self.scale]


def build(models: Mapping[str, Shown], limits: Limits) -> gr.Blocks:
    """The page for these models; the first is at the left, the second that draws the same at the right."""
    first = next(iter(models.values()))
    second = ([other for other in models.values() if other is not first and other.alike(first)] or [first])[0]
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(HEAD)
        with gr.Row():
            classes = gr.Dropdown(
                first.classes, value=first.classes[:8], multiselect=True, label="classes", visible=not first.text
            )
            prompts = gr.Textbox(lines=2, label="prompts, one a line", visible=first.text)
            count = gr.Slider(1, limits.images, value=min(8, limits.images), step=1, label="images")
            seed = gr.Number(0, minimum=0, precision=0, label="seed")
        with gr.Row():
            steps = gr.Slider(1, limits.steps, value=usual(first, limits), step=1, label="steps", **if_any(first.steps))
            sampler = gr.Dropdown(["usual", *first.samplers], label="sampler", **if_any(first.samplers))
            timed = gr.Checkbox(False, label="time it against CFG")
            button = gr.Button("Draw", variant="primary", elem_id="draw")
        with gr.Row():
            sides = [side(models, first, "left", 0.5), side(models, second, "right", 1.0)]
        common = [classes, prompts, count, seed, steps, sampler, timed]
        choices = [classes, prompts, steps, sampler]
        connect(models, limits, sides, common, choices, button)
    return page


def side(models: Mapping[str, Shown], shown: Shown, where: str, beta: float) -> Side:
    """One sheet with its controls."""
    with gr.Column(min_width=300):
        names = list(models) if where == "left" else [name for name, other in models.items() if other.alike(shown)]
        model = gr.Dropdown(names, value=shown.name, label=f"{where} model", elem_id=f"{where}-model")
        visible = strengths(shown)
        beta_slider = gr.Slider(
            0.1, 1, value=beta, step=0.01, label="beta", visible=visible[0], elem_id=f"{where}-beta", interactive=True
        )
        scale = gr.Slider(
            1, 8, value=1.5, step=0.05, label="CFG scale", visible=visible[1], elem_id=f"{where}-cfg", interactive=True
        )
        sheet = gr.HTML(NONE, elem_id=f"{where}-sheet", elem_classes="sheet")
    return Side(model, beta_slider, scale, sheet)


def connect(
    models: Mapping[str, Shown],
    limits: Limits,
    sides: list[Side],
    common: list[Any],
    choices: list[Any],
    button: gr.Button,
) -> None:
    """What happens when something is changed: a slider redraws its own sheet, the button both."""
    queued = {"concurrency_id": "drawing", "concurrency_limit": 1, "api_visibility": "private"}
    left, right = sides

    def chosen(name: str) -> list[Any]:
        shown = known(models, name)
        alike = [other for other, each in models.items() if each.alike(shown)]
        return [*gr_choices(shown, limits), gr.Dropdown(choices=alike, value=name), *gr_strengths(shown)]

    quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    left.model.input(
        chosen, left.model, [*choices, right.model, left.beta, left.scale, right.beta, right.scale], **quick
    )
    right.model.input(
        lambda name: gr_strengths(known(models, name))[:2], right.model, [right.beta, right.scale], **quick
    )
    for each in sides:
        one = {"fn": sheet_of(models, limits), "inputs": [*each.inputs, *common], "outputs": each.sheet, **queued}
        for slider in (each.beta, each.scale):
            slider.change(**one, trigger_mode="always_last", show_progress="minimal")
        button.click(**one)


def sheet_of(models: Mapping[str, Shown], limits: Limits) -> Callable[..., str]:
    """The function that the page calls: from what its controls say to a sheet, HTML."""

    def drawn(
        name: str,
        beta: float,
        scale: float,
        classes: list[str],
        prompts: str,
        count: int,
        seed: int,
        steps: int,
        sampler: str,
        timed: bool,
    ) -> str:
        try:
            shown = known(models, name)
            strength = float(beta if shown.steered else scale)
            wish = Wish(
                wanted(shown, classes or [], prompts or "", count),
                strength,
                int(seed or 0),
                int(steps) if shown.steps is not None else None,
                None if sampler in (None, "usual") else sampler,
            )
            slower = None
            if timed and shown.guidance(strength).passes == 1:
                result, slower = compare_with_cfg(shown, wish, limits)
            else:
                result = draw(shown, wish, limits)
            return as_html(shown, result, strength, wish.seed, slower)
        except GftzooError as error:
            raise gr.Error(plain(error), print_exception=False) from error

    return drawn


def known(models: Mapping[str, Shown], name: Any) -> Shown:
    """The model of that name; UsageError for one that is not in the demo."""
    if not isinstance(name, str) or name not in models:
        raise UsageError(f"there is no model {plain(name, 60)!r} here.")
    return models[name]


def as_html(shown: Shown, drawn: Drawn, strength: float, seed: int, slower: Drawn | None = None) -> str:
    """A sheet with what it took, and a link that saves it."""
    source, steered = f"data:image/png;base64,{encoded(drawn.sheet)}", label(shown, strength)
    name = "-".join([shown.name.replace("/", "-"), *steered.split(), f"seed{seed}"])
    said = f"{steered}: {timing(drawn)}"
    if slower is not None:
        ratio = slower.seconds / max(drawn.seconds, 1e-9)
        said += f"; under CFG (scale {CFG_TIMED:g}, {timing(slower)}) {ratio:.2f} times as long"
    return (
        f'<img src="{source}" alt="{html.escape(steered)}"><p class="timing">{html.escape(said)}</p>'
        f'<a download="{html.escape(name)}.png" href="{source}">download the sheet</a>'
    )


def timing(drawn: Drawn) -> str:
    """`8 images in 0.52 s, 1 pass a step`."""
    passes = "1 pass" if drawn.passes == 1 else f"{drawn.passes} passes"
    return f"{drawn.images} images in {drawn.seconds:.2f} s, {passes} a step"


def encoded(picture: Image) -> str:
    """A picture as a PNG, base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def usual(shown: Shown, limits: Limits) -> int:
    """The steps that the slider shows at first."""
    return min(shown.steps or 1, limits.steps)


def strengths(shown: Shown) -> tuple[bool, bool]:
    """Which of the two sliders a model has: beta, CFG."""
    return shown.steered, not shown.steered and not shown.fixed


def gr_strengths(shown: Shown) -> list[Any]:
    """Both sliders of both sides, for a model that is at both."""
    beta, scale = strengths(shown)
    return [gr.Slider(visible=beta), gr.Slider(visible=scale)] * 2


def gr_choices(shown: Shown, limits: Limits) -> list[Any]:
    """What can be chosen of a model, for the controls that both sides share."""
    return [
        gr.Dropdown(choices=shown.classes, value=shown.classes[:8], visible=not shown.text),
        gr.Textbox(visible=shown.text),
        gr.Slider(value=usual(shown, limits), **if_any(shown.steps)),
        gr.Dropdown(choices=["usual", *shown.samplers], value="usual", **if_any(shown.samplers)),
    ]


def if_any(what: Any) -> dict[str, bool]:
    """Shows a control where there is something to choose."""
    return {"visible": bool(what)}


def serve(
    page: gr.Blocks, *, host: str, port: int | None, queue: int, password: str | None = None, block: bool = True
) -> str:
    """Serves the page until it is stopped, or in the background, and returns its address.

    No folder of this machine is served, uploads are refused, and at most `queue` drawings wait.

    Raises:
        GftzooError: the port is taken.
    """
    page.queue(max_size=queue, default_concurrency_limit=1, api_open=False)
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            auth=("gftzoo", password) if password else None,
            prevent_thread_lock=not block,
            quiet=True,
            share=False,
            footer_links=[],
            allowed_paths=[],
            blocked_paths=["/"],
            max_file_size=1,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            theme=gr.themes.Base(font=FONTS, font_mono=["monospace"]),
            css=STYLE,
        )
    except OSError as error:
        raise GftzooError(f"port {port} of {host} is taken; give another with --port.") from error
    return str(url)
