"""How far apart two colours are for every kind of colour vision."""

import numpy as np
from matplotlib.colors import to_rgb

# Of linear RGB, for vision without one kind of cone (Machado, Oliveira & Fernandes 2009,
# 10.1109/TVCG.2009.113, severity 1; as several public implementations have them).
MACHADO = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
VISIONS = {"normal": np.eye(3)} | {name: np.array(rows) for name, rows in MACHADO.items()}
# sRGB's own primaries and white, IEC 61966-2-1.
_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], float
)
_WHITE = _XYZ.sum(axis=1)


def linear(colour):
    """A colour's linear RGB."""
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(colour, vision="normal"):
    """L*, a*, b* (CIE 1976) of a colour as it is seen."""
    seen = np.clip(VISIONS[vision] @ linear(colour), 0, 1)
    t = _XYZ @ seen / _WHITE
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(first, second):
    """The least distance in CIELAB of two colours, over all kinds of vision."""
    return min(np.linalg.norm(lab(first, v) - lab(second, v)) for v in VISIONS)
