"""Seeds of a training's parts, each from the training's own."""

import numpy as np


def seed_of(seed: int, purpose: int, place: int) -> int:
    """A seed for one purpose and place of a training, from the training's own."""
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose, place))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
