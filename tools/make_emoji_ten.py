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
NAMES = {
    "face": (
        "grinning face; smiling face with open mouth and smiling eyes; face with tears of joy; slightly "
        "smiling face; winking face; smiling face with smiling eyes; smiling face with halo; smiling face "
        "with heart-shaped eyes; grinning face with star eyes; face throwing a kiss; face with stuck-out "
        "tongue; face with cowboy hat; smiling face with sunglasses; nerd face; face with open mouth"
    ),
    "animal": (
        "monkey face; dog face; wolf face; fox face; raccoon; cat face; lion face; tiger face; cow face; pig "
        "face; mouse face; hamster face; rabbit face; bear face; polar bear; koala; panda face; frog face"
    ),
    "bird": (
        "turkey; rooster; chicken; hatching chick; baby chick; bird; penguin; eagle; duck; swan; owl; dodo; "
        "flamingo; parrot; black bird; goose"
    ),
    "fish": (
        "spouting whale; whale; dolphin; seal; fish; tropical fish; blowfish; shark; octopus; jellyfish; crab; lobster"
    ),
    "flower": (
        "bouquet; cherry blossom; lotus; rosette; rose; hibiscus; sunflower; blossom; tulip; hyacinth; "
        "mushroom; four leaf clover; cactus; deciduous tree; evergreen tree"
    ),
    "fruit": (
        "grapes; melon; watermelon; tangerine; lemon; lime; banana; pineapple; mango; red apple; green apple; "
        "pear; peach; cherries; strawberry; blueberries; kiwifruit; tomato"
    ),
    "sweet": (
        "soft ice cream; shaved ice; ice cream; doughnut; cookie; birthday cake; shortcake; cupcake; pie; "
        "chocolate bar; candy; lollipop; custard; honey pot"
    ),
    "car": (
        "bus; oncoming bus; minibus; ambulance; fire engine; police car; taxi; oncoming taxi; automobile; "
        "oncoming automobile; recreational vehicle; pickup truck; delivery truck; tractor; racing car"
    ),
    "heart": (
        "heavy black heart; pink heart; orange heart; yellow heart; green heart; blue heart; light blue "
        "heart; purple heart; brown heart; black heart; grey heart; white heart"
    ),
    "sky": (
        "waxing crescent moon symbol; first quarter moon symbol; waxing gibbous moon symbol; full moon "
        "symbol; waning gibbous moon symbol; last quarter moon symbol; waning crescent moon symbol; crescent "
        "moon; sun with face; black sun with rays; ringed planet; white medium star; glowing star; cloud with "
        "rain; rainbow; droplet; fire"
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
