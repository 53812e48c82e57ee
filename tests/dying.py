"""Processes that end in ways of their own; a module that others load at no cost."""

import os
import signal
import time
from typing import Any


def killed_or_waiting(rank: int, *_: Any) -> None:
    """The second process of a group is killed; the others wait."""
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1000)
