"""Reports that need nothing but themselves: style and script within, and the network forbidden.

One file opens anywhere, on a phone and in the dark, without a server.
"""

import io
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.colors import to_hex
from PIL import Image

from fwbio.analyses.compare_network import is_network
from fwbio.analyses.figures import Drawing
from fwbio.analyses.palette import COLOURS
from fwbio.analyses.report import comparison, network
from fwbio.analyses.report.night import by_night

LEGIBLE = 0.85  # of a figure's own size, below which a page offers to enlarge it
MARGINS = 58  # CSS pixels of a page beside an image: the body's padding and the image's


def render(
    tree: xr.DataTree,
    images: Mapping[str, bytes],
    nights: Mapping[str, bytes],
    drawings: Sequence[Drawing],
) -> str:
    """The report of a comparison, of programs or of a trained network, as HTML.

    Args:
        tree: as `fwbio.analyses.compare` or `fwbio.analyses.compare_network` makes it.
        images: the PNG of each drawing, by its name.
        nights: those for a dark page.
        drawings: the figures, in the order of the report.

    Raises:
        FwbioError: the tree is no comparison.
    """
    of_network = is_network(tree)
    words = network.words(tree) if of_network else comparison.words(tree)
    return render_page(
        "network.html.j2" if of_network else "comparison.html.j2",
        scripts=["page.js"] if of_network else ["page.js", "explorer.js"],
        style=_figure_widths(drawings),
        config=tree.attrs["config"],
        command=tree.attrs["command"],
        versions=tree.attrs["versions"],
        figures=pictured(drawings, images, nights),
        **words,
    )


def render_page(
    template: str, *, scripts: Iterable[str] = (), style: str = "", **context: Any
) -> str:
    """A page from a template that extends page.html.j2, as HTML.

    Args:
        template: name of a file of this folder.
        scripts: names of JavaScript files of this folder that it runs.
        style: CSS beside that of page.css.
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
    environment.filters["embedded"] = embedded
    style = _within("page.css") + _substrate_colours() + style
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


def _figure_widths(drawings: Iterable[Drawing]) -> str:
    """Where a figure is nearly as large as it can be drawn, there is nothing to enlarge."""
    return "".join(
        f"@media (min-width: {round(LEGIBLE * width) + MARGINS}px) {{\n"
        f".width-{width} .enlarges {{ display: none; }}\n"
        f".width-{width} .wide img {{ max-width: 100%; cursor: auto; }}\n}}\n"
        for width in sorted({drawing.size[0] for drawing in drawings})
    )


def _substrate_colours() -> str:
    """A class for every substrate's colour; the page's policy allows no style attributes."""

    def classes(colours: Mapping[str, str]) -> str:
        return "".join(f".of-{name} {{ --own: {colour}; }}\n" for name, colour in colours.items())

    nights = {name: to_hex(by_night(colour)) for name, colour in COLOURS.items()}
    return f"{classes(COLOURS)}@media (prefers-color-scheme: dark) {{\n{classes(nights)}}}\n"
