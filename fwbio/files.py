"""Files appear whole or not at all: they are written aside and renamed."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fwbio.errors import FwbioError


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder to, which then takes its place.

    Whatever stood at `path` stays untouched until the block has ended without an error.

    Raises:
        FwbioError: the folder of `path` can't be made or written.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writes_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.touch()
        aside.unlink()
    try:
        yield aside
        with writes_told(path):
            _replace(path, aside)
    finally:
        _remove(aside)


def write_together(folder: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write files of one result; earlier ones stay until all are written aside.

    Args:
        folder: where to.
        contents: of each file by its name; text is written in UTF-8.

    Returns:
        Their paths.

    Raises:
        FwbioError: the folder can't be made or written.
    """
    with ExitStack() as stack:
        for name, content in contents.items():
            whole = content.encode() if isinstance(content, str) else content
            stack.enter_context(written_aside(folder / name)).write_bytes(whole)
    return [folder / name for name in contents]


@contextmanager
def writes_told(path: Path) -> Iterator[None]:
    """Tell in words that `path` can't be written, where the block finds that out.

    Raises:
        FwbioError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise FwbioError(
            f"can't be written ({error.strerror or error})",
            where=str(path),
            mend="name a folder that you may write to",
        ) from error


def _replace(path: Path, aside: Path) -> None:
    if path.is_dir() and aside.is_dir():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.replace(old)
        aside.replace(path)
        shutil.rmtree(old)
    else:
        aside.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
