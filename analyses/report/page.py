"""Pages that need nothing but themselves: style and script within, and the network forbidden."""

import io
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.colors import to_hex
from PIL import Image

from fwbio.analyses.figures import Drawing
from fwbio.analyses.plots import COLOURS
from fwbio.analyses.report.night import by_night


def render_page(template: str, *, scripts: Iterable[str] = (), **context: Any) -> str:
    """A page from a template that extends page.html.j2, as HTML.

    Args:
        template: name of a file of this folder.
        scripts: names of JavaScript files of this folder that it runs.
        context: what the template names.

    The page allows itself its own style and scripts, by their hashes, and images within it.
    """
    environment = Environment(
        loader=PackageLoader("fwbio.analyses.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _within("page.css") + _substrate_colours()
    run = [_within(name) for name in scripts]
    policy = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {_hash(style)}",
        f"script-src {' '.join(map(_hash, run))}" if run else "script-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return environment.get_template(template).render(
        policy="; ".join(policy),
        style=style,
        scripts=run,
        **context,
    )


def embedded(data: Mapping[str, Any]) -> str:
    """Data as JSON for a script element, which nothing in it can end."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c")


def pictured(
    drawings: Iterable[Drawing], images: Mapping[str, bytes], nights: Mapping[str, bytes]
) -> list[tuple[Drawing, str, str]]:
    """Each drawing with its image for light and for dark pages, as addresses that hold the data.

    Args:
        drawings: the figures.
        images: the PNG of each drawing, by its name.
        nights: those for a dark page.
    """
    return [(d, _address(images[d.name]), _address(nights[d.name])) for d in drawings]


def _address(png: bytes) -> str:
    """The image without loss as WebP, a quarter smaller than PNG."""
    smaller = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(smaller, format="webp", lossless=True)
    return f"data:image/webp;base64,{b64encode(smaller.getvalue()).decode()}"


def _within(name: str) -> str:
    """The text of a file of this folder; a browser sees line ends as it will be written."""
    return files("fwbio.analyses.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _substrate_colours() -> str:
    """A class for every substrate's colour; the page's policy allows no style attributes."""

    def classes(colours: Mapping[str, str]) -> str:
        return "".join(f".of-{name} {{ --own: {colour}; }}\n" for name, colour in colours.items())

    nights = {name: to_hex(by_night(colour)) for name, colour in COLOURS.items()}
    return f"{classes(COLOURS)}@media (prefers-color-scheme: dark) {{\n{classes(nights)}}}\n"
