"""The task of language modelling, byte by byte, on any text that the user names."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError
from fwbio.task import sequence_episode, size

Split = Literal["train", "validation", "test"]
BYTES = 256
_WHERE = "task bytes"
_BOUNDS = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}  # percent of the text


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Sizes of `byte_windows`.

    Args:
        trials: windows, drawn independently; length: bytes of a window.
        path: a file, or a folder whose files are read in the order of their names, those of its
            subfolders too; hidden ones are left out.
        pattern: which of a folder's files to read, such as "*.py".
        split: "train", "validation" or "test": the first 90 %, the next 5 % and the last 5 % of
            the text.
    """

    trials: int = size(8)
    length: int = size(256)
    path: str = ""
    pattern: str = "*"
    split: Split = "train"


class Corpus(NamedTuple):
    """A text: its bytes (uint8), and their SHA-256."""

    data: np.ndarray
    sha256: str


def byte_windows(config: Bytes, rng: np.random.Generator) -> xr.Dataset:
    """Windows of a text at random; the target at every step is the next byte.

    attrs["corpus_bytes"] and attrs["corpus_sha256"] say which text it was.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from fwbio.tasks import TASKS
    >>> with TemporaryDirectory() as folder:
    ...     text = Path(folder, "text.txt")
    ...     _ = text.write_bytes(b"to be or not to be, that is the question" * 5)
    ...     episode = TASKS["bytes"](seed=0, trials=1, length=6, path=str(text))
    >>> bytes(episode.tokens.values[0].tolist()), bytes(episode.target.values[0].tolist())
    (b'the qu', b'he que')

    Raises:
        FwbioError: a path that holds no text, or less in the split than a window takes.
    """
    corpus = read_corpus(config.path, config.pattern)
    start, stop = (len(corpus.data) * percent // 100 for percent in _BOUNDS[config.split])
    spare = stop - start - config.length
    if spare < 1:
        raise FwbioError(
            f"the {config.split} split of {config.path!r} has {stop - start} bytes, too few for"
            f" windows of {config.length} and the byte after",
            where=_WHERE,
            mend="give a smaller length or more text",
        )
    starts = start + rng.integers(spare, size=config.trials)
    windows = corpus.data[starts[:, None] + np.arange(config.length + 1)].astype(np.int64)
    episode = sequence_episode(
        tokens=windows[:, :-1],
        target=windows[:, 1:],
        scored=np.ones(config.length, dtype=bool),
        vocabulary=BYTES,
        classes=BYTES,
    )
    return episode.assign_attrs(corpus_bytes=len(corpus.data), corpus_sha256=corpus.sha256)


def read_corpus(path: str, pattern: str = "*") -> Corpus:
    """The text of a file, or of a folder's files that match a pattern, one after the other.

    It is read once a process: what changes in the files later is not seen.

    Raises:
        FwbioError: there is no such file or folder, nothing matches, or a file can't be read.
    """
    if not path:
        raise FwbioError("no text is named", where=_WHERE, mend="give path = a file or a folder")
    try:
        place = Path(path).expanduser()
    except RuntimeError:  # a home folder of nobody
        place = Path(path)
    return _read(place.absolute(), pattern)


@lru_cache(maxsize=4)
def _read(path: Path, pattern: str) -> Corpus:
    data = b"".join(map(_contents, _files(path, pattern)))
    if not data:
        raise FwbioError(
            f"{str(path)!r} has no text in files {pattern!r}",
            where=_WHERE,
            mend="give another path or pattern",
        )
    return Corpus(np.frombuffer(data, np.uint8), hashlib.sha256(data).hexdigest())


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FwbioError(
            f"{str(file)!r} can't be read ({error.strerror})",
            where=_WHERE,
            mend="give a path or a pattern of files that can be",
        ) from None


def _files(path: Path, pattern: str) -> list[Path]:
    """The file itself, or the folder's files that match, in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FwbioError(
            f"there is no file or folder {str(path)!r}",
            where=_WHERE,
            mend="give path = a file or a folder",
        )
    try:
        files = {file.relative_to(path).parts: file for file in path.rglob(pattern)}
    except (NotImplementedError, ValueError):
        raise FwbioError(
            f"{pattern!r} is not a pattern of file names", where=_WHERE, mend="give one like '*.py'"
        ) from None
    shown = sorted(parts for parts in files if not any(part.startswith(".") for part in parts))
    return [files[parts] for parts in shown if files[parts].is_file()]
