"""Large records: read block by block, in bounded memory, and told as those in memory are."""

import json
import warnings

import dask
import numpy as np
import pytest
import xarray as xr
from house import python
from programs import random_program
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError, blocks, record, reference
from fwbio.analyses import (
    chance_level,
    readout_agreement,
    recall_accuracy,
    recall_by_lag,
    recall_cosine,
    relative_error,
    weight_agreement,
)
from fwbio.analyses.alignment import alignment
from fwbio.analyses.benchmarks import analyses as bench
from fwbio.analyses.blockwise import WORKSPACE, pieces
from fwbio.analyses.forgetting import forgetting_curve
from fwbio.analyses.geometry import spectra
from fwbio.analyses.interference import interference
from fwbio.analyses.labels import over_trials
from fwbio.analyses.overview import overview
from fwbio.analyses.recall import hits, nearest, nearest_stored, recall_hits
from fwbio.blocks import STORED, stored
from fwbio.models.programmer import designed
from fwbio.tasks import TASKS

TRIALS, STEPS, CHANNELS, BLOCK = 100, 200, 64, 25


@pytest.fixture(scope="module")
def pair():
    """A noisy run and its reference, in memory."""
    shown = TASKS["random_pairs"](seed=1, trials=7, pairs=6, noise=0.3, pre=9, post=8)
    exact = reference.execute(designed(shown, "delta", coding="plain"), weights="all")
    rng = np.random.default_rng(2)
    noisy = {
        name: exact[name] + 0.3 * rng.standard_normal(exact[name].shape)
        for name in ("readout", "weights")
    }
    return exact.assign({n: x.assign_attrs(exact[n].attrs) for n, x in noisy.items()}), exact


CUTS = {
    "as it is stored": "auto",
    "by trials": {"trial": 3},
    "steps and channels too": {"trial": 4, "snapshot": 6, "step": 6, "pre": 5, "post": 4},
}


@pytest.fixture(scope="module", params=CUTS)
def lazy(request, pair, tmp_path_factory):
    """The same two from disk, cut in some way."""
    folder = tmp_path_factory.mktemp("lazy")
    paths = [record.save(run, folder / f"{i}.zarr") for i, run in enumerate(pair)]
    with warnings.catch_warnings():  # xarray's, that these cuts are not the store's
        warnings.simplefilter("ignore", UserWarning)
        opened = [record.load(path, chunks=CUTS[request.param]) for path in paths]
    assert all(run.weights.chunks is not None for run in opened)
    return opened


TOLD = {
    "accuracy": lambda run, exact: recall_accuracy(run).value,
    "cosine": lambda run, exact: recall_cosine(run).value,
    "standard error": lambda run, exact: recall_cosine(run).standard_error,
    "chance": lambda run, exact: chance_level(run),
    "by lag": lambda run, exact: recall_by_lag(run).to_dataarray(),
    "forgetting": lambda run, exact: forgetting_curve(run, "steps").signal_without,
    "nearest": lambda run, exact: nearest_stored(run),
    "agreement": readout_agreement,
    "weights' agreement": weight_agreement,
    "error": relative_error,
    "weights' error": lambda run, exact: relative_error(run, exact, of="weights"),
    "spectra": lambda run, exact: spectra(run).to_dataarray(),
    "interference": lambda run, exact: interference(run).to_dataarray(),
    "regression": lambda run, exact: interference(run, by="regression").interference,
    "alignment": lambda run, exact: alignment(run, exact).to_dataarray(),
    "read-outs' alignment": lambda run, exact: alignment(run, exact, of="readout").to_dataarray(),
    "overview": lambda run, exact: overview(run, exact).to_dataarray(),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told_of_blocks_is_what_is_told_of_the_whole(name, pair, lazy):
    expected, found = np.asarray(TOLD[name](*pair)), np.asarray(TOLD[name](*lazy))
    some = np.isfinite(expected)
    assert np.array_equal(some, np.isfinite(found))
    assert some.any()
    assert_close(found[some], expected[some], "turned matrices")


def test_what_maps_a_record_to_a_record_stays_lazy(lazy):
    run, exact = lazy
    made = [recall_hits(run), spectra(run).effective_rank, interference(run).interference]
    made += [alignment(run, exact).cka]
    assert all(array.chunks is not None for array in made)


def test_the_overview_says_what_the_functions_say(pair):
    run, exact = pair
    found = overview(run, exact, snapshots=None)
    accuracy = recall_accuracy(run)
    assert_close(found.recall_accuracy, accuracy.value, "float64")
    assert_close(found.recall_accuracy_se, accuracy.standard_error, "float64")
    assert_close(found.readout_agreement, readout_agreement(run, exact), "float64")
    assert_close(found.weight_agreement, weight_agreement(run, exact), "float64")
    assert_close(found.relative_error, relative_error(run, exact), "float64")
    curve, geometry = recall_by_lag(run), over_trials(spectra(run))
    assert_close(found.lag_accuracy, curve.accuracy, "float64")
    assert_close(found.effective_rank, geometry.effective_rank, "float64")
    for variable in found.variables.values():
        assert {"units", "long_name"} <= variable.attrs.keys()


def test_the_overview_leaves_out_what_a_record_lacks(pair):
    run, _ = pair
    assert "recall_accuracy" not in overview(run.drop_vars("target"))
    assert "rank" not in overview(run.drop_vars(["weights", "snapshot"]))
    assert "lag_accuracy" not in overview(run.drop_vars("lag"))
    bare = overview(run.drop_vars(["weights", "snapshot"]), run)
    assert "readout_agreement" in bare and "weight_agreement" not in bare
    with pytest.raises(FwbioError, match="there is nothing to look at"):
        overview(run.drop_vars(["weights", "stored"]))


def test_differing_programs_are_told_of_lazy_records(lazy):
    run, exact = lazy
    with pytest.raises(FwbioError, match="'query' differs"):
        readout_agreement(run.assign(query=run["query"] * 2), exact)


def plain_hits(readout, target, value, is_stored):
    """The definition of a hit, pair by pair."""
    found = np.zeros(len(readout), bool)
    for t, (y, wanted) in enumerate(zip(readout, target, strict=True)):
        rivals = [v for v, s in zip(value, is_stored, strict=True) if s and (v != wanted).any()]
        cosines = [v @ y / np.linalg.norm(v) / np.linalg.norm(y) for v in (wanted, *rivals)]
        found[t] = cosines[0] > max(cosines[1:], default=-np.inf) + 1e-12
    return found


@pytest.mark.parametrize("workspace", [1, 40, WORKSPACE])
def test_hits_of_any_blocks_are_those_of_the_definition(workspace, rng, monkeypatch):
    """Values repeat, some are not stored, and blocks are of a row, of an item or of everything."""
    monkeypatch.setattr("fwbio.analyses.blockwise.WORKSPACE", workspace)
    value = rng.choice([-1.0, -0.0, 0.0, 1.0], (3, 2, 9, 4))
    value[..., 3] += 2
    readout, is_stored = value + rng.standard_normal(value.shape), rng.random((2, 9)) < 0.7
    found = hits(readout, value, value, is_stored)
    near = nearest(readout, value, is_stored)
    for item in np.ndindex(3, 2):
        one = is_stored[item[1]]
        expected = plain_hits(readout[item], value[item], value[item], one)
        assert np.array_equal(found[item], expected)
        cosines = (value[item] / np.linalg.norm(value[item], axis=-1, keepdims=True)) @ readout[
            item
        ].T
        assert_close(
            np.take_along_axis(cosines, near[item][None], 0)[0],
            np.where(one[:, None], cosines, -np.inf).max(0),
            "float64",
        )


@pytest.mark.parametrize(("shape", "rows", "width"), [((5, 3), 4, 2), ((), 7, 3), ((2,), 1, 10**9)])
def test_pieces_cover_everything_once(shape, rows, width):
    seen = np.zeros((*shape, rows), int)
    for index, where in pieces(shape, rows, width):
        seen[(*index, ..., where)] += 1
    assert (seen == 1).all()


def test_a_stored_block_holds_trials_and_keeps_channels_whole():
    cut = {"trial": 1000, "head": 2, "step": 200, "pre": 64}
    assert stored(cut, 4, ["step", "pre"]) == (81, 2, 200, 64)
    assert 4 * np.prod(stored(cut, 4, ["step", "pre"])) <= STORED
    assert stored({"trial": 3, "step": 0}, 8, ["step"]) == (3, 1)
    assert stored({"trial": 10**6, "pre": 10**4, "post": 10**4}, 8, ["pre"]) == (1, 10**4, 104)
    assert stored({"pre": 2**16, "post": 2**16}, 8, ["pre", "post"]) == ()


def test_parts_are_joined_to_what_is_saved_at_once(pair, tmp_path):
    run, _ = pair
    parts = (run.isel(trial=slice(i, i + 3)) for i in range(0, 7, 3))
    path = record.save_blocks(parts, tmp_path / "parts.zarr")
    assert record.load(path, chunks=None).identical(run)
    assert record.load(path, chunks=None).weights.variable._in_memory


def test_mistakes_about_parts_and_chunks_are_told(pair, tmp_path):
    run, _ = pair
    with pytest.raises(FwbioError, match="names no store that grows"):
        record.save_blocks([run], tmp_path / "run.nc")
    with pytest.raises(FwbioError, match="there are no parts"):
        record.save_blocks([], tmp_path / "run.zarr")
    with pytest.raises(FwbioError, match="part 1 can't be joined"):
        record.save_blocks([run, run.isel(post=slice(3))], tmp_path / "run.zarr")
    assert not list(tmp_path.iterdir())
    path = record.save(run, tmp_path / "run.nc")
    with pytest.raises(FwbioError, match="NetCDF is read whole"):
        record.load(path, chunks={"trial": 2})
    path = record.save(run, tmp_path / "run.zarr")
    for chunks, words in (
        ({"trail": 2}, "did you mean 'trial'"),
        ({"trial": 0}, "0 is no size of 'trial'"),
        ("all", "'all' are none"),
    ):
        with pytest.raises(FwbioError, match=words):
            record.load(path, chunks=chunks)


def test_a_lazy_record_is_saved_and_checked_block_by_block(lazy, pair, tmp_path):
    run, _ = lazy
    assert record.validate(run) == []
    assert record.load(record.save(run, tmp_path / "again.zarr")).load().identical(pair[0])
    broken = run.assign(readout=run.readout.where(run.step != 3))
    (fault,) = record.validate(broken)
    assert fault.startswith("'readout' is NaN or infinite in 56 places, first at trial 0, step 3")


def parts(rng):
    """Blocks of trials with weights of every step, as large as need be and cheap to make."""
    for _ in range(0, TRIALS, BLOCK):
        small = random_program("hebb", rng, trials=BLOCK, steps=STEPS, pre=CHANNELS, post=CHANNELS)
        made = small.assign(target=small.value, scored=small.beta > 0.5, stored=small.beta > 0)
        made["lag"] = xr.DataArray(np.arange(STEPS) % 9, dims="step")
        made = made.map(lambda x: x if x.dtype == bool else x.astype("f4"), keep_attrs=True)
        for name in ("target", "scored", "stored", "lag"):
            made[name] = record.labelled(name, made[name].values, made[name].dims)
        yield record.from_run(
            made,
            substrate="reference",
            backend="none",
            readout=made.value.values + rng.standard_normal(made.value.shape, np.float32),
            weights=rng.integers(0, 9, (BLOCK, STEPS, CHANNELS, CHANNELS)).astype(np.float32),
            snapshots=np.arange(STEPS),
            leading=("trial",),
        )


MEASURED = """
import dask, json, sys
from fwbio import record
from fwbio.analyses.benchmarks.analyses import peak_bytes
from fwbio.analyses.overview import overview
from fwbio.analyses.alignment import alignment

dask.config.set(num_workers=2)
first = record.load(sys.argv[1]).isel(trial=slice(1), snapshot=slice(1)).load()
overview(first, first)
before = peak_bytes()
run = record.load(sys.argv[1])
found = overview(run, run, snapshots=5)
alignment(run, run).compute()
print(json.dumps([run.nbytes, peak_bytes() - before, float(found.recall_accuracy)]))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    rng = np.random.default_rng(3)
    return record.save_blocks(parts(rng), tmp_path_factory.mktemp("large") / "run.zarr")


def test_a_record_is_analysed_in_less_memory_than_it_takes(large):
    """100 trials of 200 steps: 350 MB of numbers, of which some blocks are held at a time."""
    size, taken, accuracy = json.loads(python("-c", MEASURED, large))
    assert size > 340e6
    assert taken < TOLERANCES["share of a record in memory"].value * size
    whole = record.load(large).isel(snapshot=[-1]).load()
    assert_close(accuracy, recall_accuracy(whole).value, "float64")


def test_checking_a_large_record_holds_blocks_of_it_alone(large):
    code = """
import dask, sys
from fwbio import record
from fwbio.analyses.benchmarks.analyses import peak_bytes
dask.config.set(num_workers=2)
run = record.load(sys.argv[1])
before = peak_bytes()
assert record.validate(run) == []
print((peak_bytes() - before) / run.nbytes)
"""
    assert float(python("-c", code, large)) < TOLERANCES["share of a record in memory"].value


def test_the_benchmark_of_analyses_measures_and_compares(tmp_path):
    found = bench.analyses(names=["overview"], folder=tmp_path, quick=True)
    assert [(entry["analysis"], entry["place"]) for entry in found["results"]] == [
        (name, place) for name in ("overview",) for place in bench.PLACES
    ]
    assert all(entry["seconds"] > 0 and entry["cpu_seconds"] > 0 for entry in found["results"])
    assert all(entry["peak_bytes"] > 2**20 for entry in found["results"])
    assert found["error"] <= bench.GATE
    assert found["record"]["weights_bytes"] == 4 * 6 * 12 * 8 * 8
    assert not list(tmp_path.iterdir())
    assert [path.name for path in bench.write(found, tmp_path)] == [bench.DATA, bench.TABLE]
    assert json.loads((tmp_path / bench.DATA).read_text(encoding="utf-8")) == found
    with pytest.raises(FwbioError, match="there is no analysis called 'recal'"):
        bench.analyses(names=["recal"], folder=tmp_path, quick=True)


def test_a_record_told_wrongly_is_not_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "disagreement", lambda *_: 1e-3)
    with pytest.raises(FwbioError, match="lazy numbers are off by 1e-03"):
        bench.analyses(folder=tmp_path, quick=True)
    assert dask.config.get("array.chunk-size", "128MiB") != blocks.READ
