"""Notebooks run from top to bottom: `python tests/notebooks.py [PATH ...]` keeps their outputs.

Without a path all of `analyses/notebooks/` are run again. What differs from run to run or from
machine to machine - times, counts of executions, versions - is not kept.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "analyses" / "notebooks"
SECONDS = 240  # of one cell, on a machine that does other things too


def notebooks():
    """The paths of all notebooks, in the order in which they are to be read."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(path, folder):
    """The notebook of a path, tidy and run in a folder by the Python that runs this."""
    notebook = tidy(nbformat.read(path, as_version=4))
    os.environ.pop("MPLBACKEND", None)  # figures are shown in the notebook
    with tempfile.TemporaryDirectory(prefix="nb-") as aside:
        os.environ |= {
            "JUPYTER_PREFER_ENV_PATH": "1",  # this Python's kernel, not one that the user has made
            "JUPYTER_RUNTIME_DIR": aside,
            "IPYTHONDIR": aside,  # nor what a user's profile starts with
            "OMP_NUM_THREADS": "1",
        }
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    return tidy(notebook)


def tidy(notebook):
    """The notebook without what says when, where and by which versions it was run."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        kept = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "image/png" in output.get("data", {}):
                output.data.pop("text/plain", None)  # "<Figure size ...>"
    return notebook


def text(cell):
    """What a cell shows in words and numbers, images left out."""
    shown = []
    for output in cell.get("outputs", []):
        shown.append(output.get("text", ""))
        shown.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(part for part in shown if part)


def images(cell):
    """The PNG images that a cell shows, in base64."""
    shown = (output.get("data", {}).get("image/png") for output in cell.get("outputs", []))
    return [image for image in shown if image]


def main(paths, into=None):
    """Run notebooks again, all unless some are named, and keep what they show."""
    for path in map(Path, paths or notebooks()):
        with tempfile.TemporaryDirectory() as folder:
            done = execute(path, folder)
        kept = Path(into or path.parent) / path.name
        aside = kept.with_suffix(".partial")
        nbformat.write(done, aside)
        aside.replace(kept)


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("paths", nargs="*", metavar="PATH", help="notebooks, all unless given")
    reader.add_argument("--into", help="where to keep them, in place unless given")
    given = reader.parse_args()
    main(given.paths, given.into)
