"""The files of a comparison: checked before the work, written aside after it, then renamed.

What other commands share of this is here too: the check of a folder, figures as images, JSON.
"""

import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio import record
from fwbio.analyses.compare import summary
from fwbio.errors import FwbioError
from fwbio.files import writes_told, written_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TREE, TABLE, FIGURES, REPORT = "comparison.nc", "summary.csv", "figures", "report.html"


def check_writable(folder: str | Path) -> Path:
    """The folder, once it is known that it can be written to. Nothing is left there.

    Raises:
        FwbioError: it can't be written.
    """
    folder = Path(folder)
    standing = folder
    while not standing.exists() and standing != standing.parent:
        standing = standing.parent
    with writes_told(folder), tempfile.TemporaryDirectory(dir=standing):
        pass
    return folder


def in_folder(path: Path) -> Path:
    """The comparison.nc in a folder; any other path as it is.

    Args:
        path: of a comparison, or of the folder that it was written to.

    Raises:
        FwbioError: the folder holds none.
    """
    if not path.is_dir() or path.suffix == ".zarr":
        return path
    if not (path / TREE).is_file():
        raise FwbioError(
            f"the folder holds no {TREE}",
            where=str(path),
            mend="name one that `fwbio compare` wrote",
        )
    return path / TREE


def png(figure: "Figure", *, dpi: int) -> bytes:
    """A figure as a PNG image; equal figures give equal bytes.

    Args:
        figure: of matplotlib.
        dpi: pixels per inch.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return drawn.getvalue()


def json_text(found: Any) -> str:
    """What was found as JSON, in the order it has; null for every number that is none.

    Args:
        found: mappings, lists, tuples, words, truth values, and numbers of Python or NumPy.

    >>> print(json_text({"share": float("nan"), "hits": (1, 2)}))
    {
     "share": null,
     "hits": [
      1,
      2
     ]
    }
    """
    return json.dumps(_finite(found), indent=1, ensure_ascii=False, allow_nan=False)


def check_folder(folder: str | Path) -> Path:
    """The folder, once it is known that a comparison can be written to it. Nothing is left there.

    Raises:
        FwbioError: it can't be written, or holds a folder `figures` that no report goes with,
            which writing would replace.
    """
    folder = check_writable(folder)
    if (folder / FIGURES).exists() and not (folder / REPORT).exists():
        raise FwbioError(
            f"has a folder {FIGURES!r} that is not a report's and would be replaced",
            where=str(folder),
            mend="name another folder",
        )
    return folder


def write(
    tree: xr.DataTree, folder: str | Path, *, with_tree: bool = True, progress: bool = False
) -> Path:
    """Write a comparison's tree, table, figures and report; an earlier result stays until all are.

    Args:
        tree: as `fwbio.analyses.compare` makes it.
        folder: gets comparison.nc, summary.csv, figures/*.png and report.html.
        with_tree: whether to write comparison.nc.
        progress: whether to show a bar, on standard error.

    Returns:
        The path of the report.

    Raises:
        FwbioError: the tree is not a comparison, or the folder can't be written.
    """
    from fwbio.analyses.figures import draw
    from fwbio.analyses.report.page import render

    folder = check_folder(folder)
    names = [*([TREE] if with_tree else []), TABLE, FIGURES, REPORT]
    with tempfile.TemporaryDirectory() as staged, ExitStack() as stack:
        draft = Path(staged)
        summary(tree).to_csv(draft / TABLE, index=False)
        drawings = list(draw(tree))
        bar = tqdm(drawings, desc="figures", unit="figure", disable=not progress, leave=False)
        pairs = {drawing.name: (drawing.png(), drawing.png(dark=True)) for drawing in bar}
        images = {name: day for name, (day, _) in pairs.items()}
        nights = {name: dark for name, (_, dark) in pairs.items()}
        (draft / FIGURES).mkdir()
        for name, image in images.items():
            (draft / FIGURES / f"{name}.png").write_bytes(image)
        (draft / REPORT).write_text(render(tree, images, nights, drawings), encoding="utf-8")
        if with_tree:
            record.save(tree, draft / TREE)
        asides = {name: stack.enter_context(written_aside(folder / name)) for name in names}
        for name, aside in asides.items():
            shutil.move(draft / name, aside)
    return folder / REPORT


def _finite(found: Any) -> Any:
    """The same as plain data, None for every number that is none."""
    if isinstance(found, Mapping):
        return {name: _finite(x) for name, x in found.items()}
    if isinstance(found, (list, tuple)):
        return [_finite(x) for x in found]
    found = found.item() if isinstance(found, np.generic) else found
    return None if isinstance(found, float) and not np.isfinite(found) else found
