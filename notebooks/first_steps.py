# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # First steps
# Train a small diffusion transformer without guidance on handwritten digits, draw from it, and look at its temperature.
#
# `jupytext --to ipynb notebooks/first_steps.py` makes a notebook of this file; it runs as a script, too. The
# environment variables `STEPS` and `IMAGES` make it shorter.

# %%
import os
from pathlib import Path

from PIL import Image

import gftzoo
from gftzoo import engine, evaluate
from gftzoo.evaluate.sweep import sweep

steps = int(os.environ.get("STEPS", "2000"))  # minutes on two CPU cores
images = int(os.environ.get("IMAGES", "500"))

# %% [markdown]
# ## Train
# The folder of the run holds its checkpoints, its pictures and a report. `MODEL` may be `sit-emoji`, which draws in
# colour, or any other name of `gftzoo list`.

# %%
MODEL = "dit-nano"
run = Path("runs") / engine.unused_name(Path("runs"), "first-steps")
engine.train(engine.resolve(MODEL, objective="gft", steps=steps), run)
Image.open(run / "samples" / "final.png")

# %% [markdown]
# ## Draw
# The same seeds at every temperature: at 1 the plain conditional model, below it stronger guidance, in one pass a step.

# %%
model = gftzoo.load(run)
guidances = [model.guidance(beta=beta) for beta in (1.0, 0.66, 0.5, 0.33)]
evaluate.strip(model, guidances, list(range(10)))

# %% [markdown]
# A seed's image never depends on the batch that it is drawn in.

# %%
one = model.sample([3], beta=0.5, seed=7)
several = model.sample([3, 7, 8], beta=0.5, seed=7)
float((one[0] - several[0]).abs().max())

# %% [markdown]
# ## Sweep
# Diversity against fidelity, in the features of a small classifier that is trained on the training split first.

# %%
protocol = evaluate.choose_protocol("embedded", model.card, images=images, few=True)
records = sweep(evaluate.Evaluator(protocol), model, guidances, run / "sweep")
for row in evaluate.compare(records):
    print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})

# %%
evaluate.plot_curves({MODEL: records}, run / "curves.png")
Image.open(run / "curves.png")
