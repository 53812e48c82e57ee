"""Strict numerics, and random numbers whose seed a failure tells."""

import os
import zlib

import numpy as np
import pytest
import torch

from fwbio import RULES
from fwbio.kernels import BACKENDS, unsupported

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


def pytest_itemcollected(item):
    """Hold every figure that a test hands over for comparison to the house's rules of figures."""
    if item.get_closest_marker("mpl_image_compare") is not None:
        from images import held_to_house_rules  # once MPLBACKEND is set

        item.obj = held_to_house_rules(item.obj)


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a GPU where there is none, and backends that do not run a rule.

    What those refuse is asserted by test_scan_errors.py.
    """
    refused = [item for item in items if _is_refused(item)]
    config.hook.pytest_deselected(items=refused)
    items[:] = [item for item in items if item not in set(refused)]
    if not torch.cuda.is_available():
        needing = [item for item in items if item.get_closest_marker("gpu") is not None]
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in set(needing)]


def _is_refused(item):
    """Whether a test is of a rule on a backend that does not run it."""
    parameters = getattr(item, "callspec", None)
    if parameters is None or not {"rule", "backend"} <= parameters.params.keys():
        return False
    rule, backend = (parameters.params[name] for name in ("rule", "backend"))
    return rule in RULES and backend in BACKENDS and bool(unsupported(rule, backend))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    seeds = [value for name, value in item.user_properties if name == "seed"]
    if report.failed and seeds:
        report.sections.append(("Random numbers", f"seed {seeds[0]}; rerun with {SEED}={seeds[0]}"))
    return report
