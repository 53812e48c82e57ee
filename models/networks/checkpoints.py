"""Files of training: plain data and tensors, that appear whole or not at all and run nothing."""

import csv
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fwbio.errors import FwbioError
from fwbio.files import written_aside

LOG = logging.getLogger("fwbio")
ANEW = "delete it and train anew"


def read_plain(path: Path) -> Any:
    """What a file of torch holds, plain data and tensors only; nothing in it is executed.

    Raises:
        FwbioError: there is no such file, or it is not (or no longer) a whole one.
    """
    if not path.is_file():
        raise FwbioError("there is no such file", where=str(path), mend="check the name")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in as many ways as files do
        raise FwbioError(
            "not a file that `train` wrote, or one cut short",
            where=str(path),
            mend="check the name; a file cut short must be trained anew",
        ) from error


def read_format(path: Path, form: str, *, holds: str) -> dict[str, Any]:
    """What a file of one of this package's formats holds.

    Args:
        path: of the file.
        form: what its entry `format` must be.
        holds: what such a file holds, in words.

    Raises:
        FwbioError: as `read_plain` raises, or it holds something else.
    """
    content = read_plain(path)
    if not isinstance(content, dict) or content.get("format") != form:
        raise FwbioError(
            f"it holds no {holds} of this version",
            where=str(path),
            mend="name a file that `train` wrote, or train anew",
        )
    return content


@contextmanager
def fitting_together(path: Path) -> Iterator[None]:
    """Tell in one line what goes wrong when something is built of a file's parts."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FwbioError(
            f"its parts don't fit together ({str(error).splitlines()[0]})",
            where=str(path),
            mend=ANEW,
        ) from error


def write_plain(content: Mapping[str, Any], path: Path) -> None:
    """Write plain data and tensors, and wait until the disk has them."""
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def before(unfinished: Path) -> Path:
    """Where the unfinished checkpoint before the last one is kept."""
    return unfinished.with_name(f"{unfinished.stem}.before{unfinished.suffix}")


def keep(content: Mapping[str, Any], unfinished: Path) -> None:
    """Write an unfinished checkpoint; the one that it follows is kept beside it."""
    with written_aside(unfinished) as aside:
        write_plain(content, aside)
        if unfinished.exists():
            unfinished.replace(before(unfinished))


def resumable(unfinished: Path, name: str) -> Path | None:
    """The last unfinished checkpoint that is whole, or None where there is none at all.

    One that was cut short is told in one line of the log `fwbio` and removed, if there is a
    whole one before it.

    Args:
        unfinished: where the last one is kept.
        name: of the config that is trained.

    Raises:
        FwbioError: none of them is whole, or one is another config's.
    """
    kept = [path for path in (unfinished, before(unfinished)) if path.exists()]
    damage: list[FwbioError] = []
    for path in kept:
        try:
            content = read_plain(path)
        except FwbioError as error:
            damage.append(error)
            continue
        extra = content.get("fwbio") if isinstance(content, dict) else None
        if not isinstance(extra, dict) or extra.get("name") != name or "summed" not in extra:
            raise FwbioError(
                "it holds no unfinished training of this config", where=str(path), mend=ANEW
            )
        for told in damage:
            LOG.warning("%s: %s; training goes on from %s", told.where, told.what, path.name)
            Path(told.where).unlink(missing_ok=True)
        return path
    if damage:
        raise FwbioError(damage[0].what, where=damage[0].where, mend=ANEW) from damage[0]
    return None


def discard(unfinished: Path) -> None:
    """Remove the unfinished checkpoints of a training that has ended."""
    for path in (unfinished, before(unfinished)):
        path.unlink(missing_ok=True)


def write_rows(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write rows as CSV, numbers in full, with a column for every name that occurs in them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with written_aside(path) as aside:
        aside.write_text(text.getvalue(), encoding="utf-8")
