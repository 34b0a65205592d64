"""Makes `gftzoo/data/emoji_ten.npz`, the pictures of the source `emoji-ten`, from the Twemoji of the extra `emoji`.

    python tools/make_emoji_ten.py

Ten kinds that are told apart at the size of a stamp, 32x32 pixels on white.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gftzoo.data.emoji import load
from gftzoo.data.emoji_ten import KINDS, SIDE

OUT = Path(__file__).parents[1] / "gftzoo/data/emoji_ten.npz"
NAMES = {  # every third is held out
    "face": (
        "grinning face; slightly smiling face; face with tears of joy; smiling face with heart-shaped eyes; "
        "smiling face with sunglasses; smiling face with smiling eyes"
    ),
    "cat": (
        "smiling cat face with open mouth; smiling cat face with heart-shaped eyes; grinning cat face with "
        "smiling eyes; cat face with wry smile; pouting cat face; cat face with tears of joy"
    ),
    "bear": ("bear face; polar bear; koala; panda face; teddy bear; dog face"),
    "bird": ("baby chick; bird; duck; penguin; owl; black bird"),
    "fish": ("fish; tropical fish; blowfish; dolphin; spouting whale; whale"),
    "flower": ("sunflower; cherry blossom; blossom; rose; tulip; hibiscus"),
    "fruit": ("red apple; green apple; tomato; tangerine; peach; pear"),
    "car": ("oncoming automobile; oncoming taxi; oncoming police car; automobile; taxi; recreational vehicle"),
    "book": ("closed book; green book; blue book; orange book; notebook; notebook with decorative cover"),
    "heart": (
        "heavy black heart; orange heart; pink heart; yellow heart; green heart; light blue heart; blue "
        "heart; purple heart; brown heart"
    ),
}


def main() -> None:
    """Writes the file and says how large it is."""
    pixels, _, captions, _ = load()
    row_of = {caption: row for row, caption in reversed(list(enumerate(captions)))}
    images, labels = [], []
    for label, kind in enumerate(KINDS):
        for name in NAMES[kind].split("; "):
            picture = Image.fromarray(pixels[row_of[name]]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            images.append(np.asarray(picture))
            labels.append(label)
    np.savez_compressed(OUT, images=np.stack(images), labels=np.array(labels, dtype=np.uint8))
    print(f"{OUT}: {len(images)} pictures, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
