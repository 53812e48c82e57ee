"""Recordings from records, NetCDF, Zarr and CSV, and what is told of those that are none."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from programs import random_program
from tolerances import assert_close

from fwbio import FwbioError, program, record, reference
from fwbio.analyses.identification import from_record, identify, read
from fwbio.analyses.identification.csv_table import read_csv, write_csv


@pytest.fixture
def made(rng):
    """A record of a rule whose gates vary, in two trials."""
    return reference.execute(random_program("gated_delta", rng, steps=7), weights="all")


def test_a_record_is_laid_out_by_trial(rng):
    made = reference.execute(random_program("kda", rng, trials=2, heads=3, steps=5), weights=2)
    found = from_record(made)
    assert found.keys.shape == (6, 5, 4) and found.values.shape == (6, 5, 3)
    assert (found.trials, found.steps, found.pre, found.post) == (6, 5, 4, 3)
    np.testing.assert_array_equal(found.snapshots, made.snapshot)
    np.testing.assert_array_equal(found.weights.reshape(2, 3, 3, 4, 3), made.weights)
    np.testing.assert_array_equal(found.keys[4], made.key.isel(trial=1, head=1))
    assert found.courses["log_decay"].shape == (6, 5, 4) and not found.initial.any()


def test_gates_that_do_not_vary_are_forgotten(made):
    still = made.assign(log_decay=xr.full_like(made.log_decay, -0.1))
    assert from_record(made).courses.keys() == {"log_decay", "beta"}
    assert from_record(still).courses.keys() == {"beta"}


def test_read_outs_count_where_something_was_asked(made):
    asked = made.assign(query=made["query"].where(made.step % 2 == 0, 0.0))
    seen = np.isfinite(from_record(asked).readout).all(-1)
    np.testing.assert_array_equal(seen, np.broadcast_to(np.arange(7) % 2 == 0, (2, 7)))
    assert from_record(made.drop_vars("query")).readout is None


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_stores_are_read_as_they_were_saved(suffix, made, tmp_path):
    path = record.save(made, tmp_path / f"made{suffix}")
    found, direct = read(path), from_record(made)
    np.testing.assert_array_equal(found.weights, direct.weights)
    np.testing.assert_array_equal(found.courses["beta"], direct.courses["beta"])


def test_a_dataset_of_ones_own_needs_keys_values_and_weights(rng, tmp_path):
    own = xr.Dataset(
        {
            "key": (("step", "pre"), rng.standard_normal((9, 3))),
            "value": (("step", "post"), rng.standard_normal((9, 2))),
            "weights": (("step", "pre", "post"), rng.standard_normal((9, 3, 2))),
        }
    )
    path = tmp_path / "own.nc"
    own.to_netcdf(path, engine="h5netcdf")
    found = read(path)
    assert found.weights.shape == (1, 9, 3, 2) and found.weight_units == ""
    assert read(path, initial="observed").initial is None


def test_csv_keeps_what_identification_needs(made, tmp_path):
    seen = made.isel(snapshot=[0, 2, 5])
    back, direct = read(write_csv(seen, tmp_path / "made.csv")), from_record(seen)
    np.testing.assert_array_equal(back.snapshots, direct.snapshots)
    for name in ("keys", "values", "queries", "weights", "readout"):
        assert_close(getattr(back, name), getattr(direct, name), "float64")
    for name in ("log_decay", "beta"):
        assert_close(back.courses[name], direct.courses[name], "float64")


def test_csv_and_record_give_the_same_answer(rng, tmp_path):
    keys, values = rng.standard_normal((2, 30, 3)) / 2
    made = reference.execute(program.make("delta", keys, values, keys, beta=0.5), weights="all")
    noisy = made.assign(weights=made.weights + 0.05 * rng.standard_normal(made.weights.shape))
    rules = ["hebb", "delta", "gated_delta"]
    back = identify(read(write_csv(noisy, tmp_path / "made.csv")), rules=rules, scale="known")
    direct = identify(noisy, rules=rules)
    assert back.rules == direct.rules == ("delta",)
    assert_close(back["delta"].parameters[0].value, direct["delta"].parameters[0].value, "fits")


def test_post_activity_stands_for_values_and_rows_for_any_order(tmp_path, rng):
    frame = table(rng)
    frame = frame.rename(columns={"value_0": "post_0"}).iloc[::-1]
    path = tmp_path / "own.csv"
    frame.to_csv(path, index=False)
    np.testing.assert_allclose(read_csv(path).value[0, :, 0], frame["post_0"].iloc[::-1])


def test_substeps_do_not_fit_in_rows(rng, tmp_path):
    made = reference.execute(random_program("delta_product", rng), weights="all")
    with pytest.raises(FwbioError, match="substeps are more than a row holds"):
        write_csv(made, tmp_path / "made.csv")


def table(rng, steps=5):
    """A sound table of one synapse onto each of two keys."""
    names = ["key_0", "key_1", "value_0", "weight_0_0", "weight_1_0"]
    numbers = pd.DataFrame(rng.standard_normal((steps, len(names))), columns=names)
    return numbers.assign(step=range(steps))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.drop(columns="step"), "there is no column 'step'"),
        (lambda t: t.drop(columns=["key_0", "key_1"]), "there is no column 'key_0'"),
        (lambda t: t.drop(columns="value_0"), "there is no column 'value_0'"),
        (lambda t: t.rename(columns={"key_1": "key_2"}), "the column 'key_1' is missing"),
        (lambda t: t.drop(columns="weight_1_0"), "the column 'weight_1_0' is missing"),
        (lambda t: t.assign(weight_1_1=0.0), "the column 'weight_1_1' is one too many"),
        (lambda t: t.assign(weigth_0_0=0.0), "the column 'weigth_0_0' is none"),
        (lambda t: t.assign(post_0=0.0), "'post_0' and 'value_0' are the same channel"),
        (lambda t: t.assign(key_0="much"), r"column 'key_0' is not a number in line 2 \('much'\)"),
        (lambda t: t.assign(key_0=t.key_0.where(t.step != 3)), "'key_0' is empty in line 5"),
        (lambda t: t.assign(step=0), "step 0 of trial 0 is there twice"),
        (lambda t: t.assign(trial=[0, 0, 0, 1, 1]), "trials differ in their steps"),
        (lambda t: t.iloc[:2], "2 steps are too few"),
        (lambda t: t.drop(columns=["weight_0_0", "weight_1_0"]), "nothing of the memory"),
        (lambda t: t.assign(weight_0_0=1.0, weight_1_0=2.0), "the weights never change"),
        (lambda t: t.assign(weight_0_0=np.nan, weight_1_0=np.nan), "no weight was observed"),
        (lambda t: t.assign(key_0=0.0, key_1=0.0), "every key is zero"),
        (lambda t: t.assign(value_0=0.0), "every value is zero"),
        (lambda t: t.assign(key_0=np.inf), "column 'key_0' is infinite in line 2"),
    ],
)
def test_faults_of_a_table_are_told(change, told, rng, tmp_path):
    path = tmp_path / "own.csv"
    change(table(rng)).to_csv(path, index=False)
    with pytest.raises(FwbioError, match=told) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"), [("", "no table"), ("step,key_0\n1,2\n1,2,3,4\n", "no table")]
)
def test_what_is_no_table_is_told(text, told, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(FwbioError, match=told):
        read(path)
    with pytest.raises(FwbioError, match="no such file"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.drop_vars("key"), "there is no 'key'"),
        (lambda r: r.drop_vars("value"), "there is no 'value'"),
        (lambda r: r.drop_vars(["weights", "readout"]), "nothing of the memory"),
        (lambda r: r.isel(step=slice(2)).drop_vars("weights"), "2 steps are too few"),
        (lambda r: r.isel(post=slice(2)).assign(value=r.value.rename(post="p")), "dims"),
        (
            lambda r: r.assign(weights=r.weights.rename(post="other")),
            "snapshot, pre, post",
        ),
        (lambda r: r.drop_vars("snapshot").isel(snapshot=slice(3)), "nothing says after which"),
        (lambda r: r.assign_coords(snapshot=r.snapshot - 1), "are not steps from 0 to 6"),
        (lambda r: r.assign(key=r.key.astype(str)), "is no number"),
        (lambda r: r.isel(step=[0, 1, 4, 5, 6]), "left out or out of order after step 1"),
        (lambda r: r.assign_coords(step=r.step / 2), "are not whole numbers"),
        (lambda r: r.isel(step=slice(0)), "there is no step in it"),
        (lambda r: r.isel(post=slice(0)), "there is no post in it"),
        (lambda r: r.drop_vars(["weights", "query"]), "without `query`"),
        (lambda r: r.assign(weights=np.inf * r.weights), "infinite in"),
        (lambda r: r.assign(weights=np.nan * r.weights), "no weight was observed"),
        (lambda r: r.assign(log_decay=np.nan * r.log_decay), "record, log_decay: NaN"),
        (lambda r: xr.DataTree(r), "one record is needed, not a DataTree"),
    ],
)
def test_faults_of_a_record_are_told(change, told, made):
    with pytest.raises(FwbioError, match=told):
        from_record(change(made))


def test_a_start_that_there_is_not_is_told(made):
    with pytest.raises(FwbioError, match="'seen' is no start"):
        from_record(made, initial="seen")


def test_one_synapse_among_many_is_a_recording(made):
    one = (made.weights.pre == made.weights.pre) & False
    one[0] = True
    found = from_record(made.assign(weights=made.weights.where(one)))
    assert np.isfinite(found.weights).sum() == found.weights[:, :, 0].size


def test_runs_of_this_toolkit_start_where_they_say(made):
    ours = made.assign_attrs(substrate="reference")
    large = ours.assign(weights=ours.weights + 1e6)
    assert from_record(large).start == "zero"
    assert from_record(large.drop_attrs(deep=False)).start == "observed"
    given = large.assign(initial_weights=large.weights.isel(snapshot=0, drop=True))
    assert from_record(given).start == "given"


def test_one_snapshot_where_weights_start_leaves_nothing_to_explain(made):
    with pytest.raises(FwbioError, match="none is left to explain"):
        identify(
            from_record(made.isel(snapshot=[3]), initial="observed"),
            rules=["hebb"],
            observed="weights",
        )


def test_gates_of_every_channel_that_vary_are_more_than_a_row(rng, tmp_path):
    keys, values = rng.standard_normal((2, 6, 3))
    gates = {"log_decay": -rng.uniform(size=(6, 3))}
    made = reference.execute(program.make("gla", keys, values, keys, **gates), weights="all")
    with pytest.raises(FwbioError, match="log_decay of every channel varies"):
        write_csv(made, tmp_path / "gla.csv")
    assert not list(tmp_path.iterdir())
