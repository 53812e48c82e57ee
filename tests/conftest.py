"""Strict numerics, and random numbers whose seed a failure tells."""

import os
import zlib

import numpy as np
import pytest
import torch

SEED = "FWBIO_TEST_SEED"

os.environ.setdefault("MPLBACKEND", "Agg")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)  # which also fills uninitialised memory with NaN


@pytest.fixture
def seed(request):
    """The test's own seed: its node id's checksum, unless the environment overrides it."""
    chosen = int(os.environ.get(SEED, zlib.crc32(request.node.nodeid.encode())))
    request.node.user_properties.append(("seed", chosen))
    return chosen


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def device(request):
    """Where tensors are made: on the GPU in tests marked `gpu`."""
    where = "cpu" if request.node.get_closest_marker("gpu") is None else "cuda"
    with torch.device(where):
        yield where


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        needing = [item for item in items if item.get_closest_marker("gpu") is not None]
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in set(needing)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    seeds = [value for name, value in item.user_properties if name == "seed"]
    if report.failed and seeds:
        report.sections.append(("Random numbers", f"seed {seeds[0]}; rerun with {SEED}={seeds[0]}"))
    return report
