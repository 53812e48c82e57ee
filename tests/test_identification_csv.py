"""Recordings as people write them in CSV: what is read, what is left aside, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from tolerances import assert_close

from fwbio import RULES, FwbioError
from fwbio.analyses.identification import identify, read
from fwbio.analyses.identification.csv_table import read_csv, write_csv


@pytest.fixture
def table(rng):
    """A sound table of one synapse onto each of two keys."""
    names = ["key_0", "key_1", "value_0", "weight_0_0", "weight_1_0"]
    numbers = pd.DataFrame(rng.standard_normal((6, len(names))), columns=names)
    return numbers.assign(step=range(6))


@pytest.fixture
def told(tmp_path):
    """What is told of a table."""

    def told(frame):
        frame.to_csv(tmp_path / "own.csv", index=False)
        with pytest.raises(FwbioError) as error:
            read(tmp_path / "own.csv")
        return str(error.value)

    return told


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_too(separator, table, tmp_path):
    table.to_csv(tmp_path / "comma.csv", index=False)
    table.to_csv(tmp_path / "other.csv", index=False, sep=separator)
    xr.testing.assert_identical(read_csv(tmp_path / "comma.csv"), read_csv(tmp_path / "other.csv"))


def test_decimal_commas_are_told(table, tmp_path):
    path = tmp_path / "own.csv"
    table.to_csv(path, index=False, sep=";", decimal=",")
    with pytest.raises(FwbioError, match="decimals with a point"):
        read(path)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("kye_0", "key_0"),
        ("Key_0", "key_0"),
        ("k_0", "key_0"),
        ("Weight_1_0", "weight_1_0"),
        ("wieght_1_0", "weight_1_0"),
        ("intervals", "interval"),
        ("Trial", "trial"),
        ("W_1_0", "weight_1_0"),
        ("w_0_0", "weight_0_0"),
        ("weights_1_0", "weight_1_0"),
        ("per_0", "pre_0"),
    ],
)
def test_misspelt_columns_are_told_with_the_one_meant(wrong, meant, table, told):
    frame = table.rename(columns={meant: wrong}) if meant in table else table.assign(**{wrong: 1})
    assert f"{wrong!r} is none that a recording has; did you mean {meant!r}?" in told(frame)


def test_two_numbers_are_never_meant_for_a_channel(table, told):
    words = told(table.assign(W_10_0=1.0))
    assert "did you mean 'weight_10_0'?" in words
    assert "'key_0_0'" not in told(table.assign(kye_0_0=1.0, weight_9_9=1.0))


@pytest.mark.parametrize("column", ["key_a", "weights", "value mean", "pre", "pre_a"])
def test_columns_of_a_recording_need_their_numbers(column, table, told):
    assert f"{column!r} is none that a recording has" in told(table.assign(**{column: 1.0}))


def test_columns_of_something_else_are_left_aside(table, tmp_path):
    path = tmp_path / "own.csv"
    others = {"mouse": "m1", "date": "2025-01-01", "comment": "", "pressure": 1.0}
    table.assign(**others).to_csv(path, index=True)
    found = read_csv(path)
    assert found.attrs["ignored_columns"] == ["Unnamed: 0", *others]
    np.testing.assert_allclose(found.key[0, :, 1], table.key_1)


def test_a_column_there_twice_is_told(table, tmp_path):
    path = tmp_path / "own.csv"
    pd.concat([table, table[["key_0"]]], axis=1).to_csv(path, index=False)
    with pytest.raises(FwbioError, match="'key_0' is there twice"):
        read(path)


def test_trials_may_have_names(table, tmp_path):
    path = tmp_path / "own.csv"
    both = [table.assign(trial="mouse1"), (2 * table).assign(trial="mouse0", step=range(6))]
    pd.concat(both).to_csv(path, index=False)
    found = read_csv(path)
    assert list(found.trial.values) == ["mouse0", "mouse1"]
    np.testing.assert_allclose(found.key.sel(trial="mouse1", pre=0), table.key_0)
    assert read(path).trials == 2


def test_trials_are_in_the_order_of_their_numbers(table, tmp_path):
    path = tmp_path / "own.csv"
    pd.concat([table.assign(trial=10), table.assign(trial=9, key_0=7.0)]).to_csv(path, index=False)
    np.testing.assert_array_equal(read_csv(path).key[0, :, 0], 7.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(index=[2, 3]), "before step 4 of trial 0 a step is missing"),
        (lambda t: t.assign(step=2 * t.step), "before step 2 of trial 0 a step is missing"),
        (lambda t: t.assign(step=t.step + 0.5), "step 0.5 of trial 0 is no whole number"),
        (lambda t: t.assign(trial="m").drop(index=2), "step 3 of trial m a step is missing"),
        (lambda t: t.assign(trial=t.step.where(t.step > 0)), "'trial' is empty in line 2"),
        (lambda t: t.head(0), "a header and no rows"),
        (lambda t: t.assign(weight_0_0=np.inf), "leave the field empty where it was not seen"),
        (lambda t: t.assign(key_0=t.key_0.where(t.step != 1)), "no row of a presentation"),
        (lambda t: t.assign(weight_0_0=np.nan, weight_1_0=np.nan), "no weight was observed: all"),
    ],
)
def test_what_would_be_misread_is_refused(change, words, table, told):
    assert words in told(change(table))


def test_keys_and_values_may_be_named_by_their_side(table, tmp_path):
    other = table.rename(columns={"key_0": "pre_0", "key_1": "pre_1", "value_0": "post_0"})
    for name, frame in {"one.csv": table, "other.csv": other}.items():
        frame.to_csv(tmp_path / name, index=False)
    xr.testing.assert_identical(read_csv(tmp_path / "one.csv"), read_csv(tmp_path / "other.csv"))


def test_a_channel_has_one_name(table, told):
    assert "'pre_1' and 'key_1' are the same channel" in told(table.assign(pre_1=1.0))


def test_trials_that_end_early_are_filled_up_with_nothing(table, tmp_path):
    path = tmp_path / "own.csv"
    whole = table.assign(trial="whole", interval=np.arange(1.0, 7.0), readout_0=1.0)
    whole = whole.assign(query_0=1.0, query_1=1.0)
    pd.concat([whole, whole.head(4).assign(trial="early")]).to_csv(path, index=False)
    found = read_csv(path)
    assert found.attrs["padded_trials"] == 1
    early, rest = found.sel(trial="early"), found.sel(trial="early").isel(step=slice(4, None))
    assert early.sizes["step"] == 6
    for name in ("key", "value", "query"):
        assert (rest[name] == 0).all()
    assert rest.weights.isnull().all()
    assert rest.readout.isnull().all()
    np.testing.assert_array_equal(rest.interval, 4.0)
    kept = found.isel(step=slice(4)).drop_vars("trial")
    xr.testing.assert_equal(kept.isel(trial=0), kept.isel(trial=1))
    assert "padded_trials" not in read_csv(_written(whole, path)).attrs


def _written(frame, path):
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("observed", ["weights", "readout"])
def test_steps_that_present_and_show_nothing_change_no_fit(observed, rng, tmp_path):
    steps, channels, decay = 30, 3, 0.9
    key, value, query = (rng.standard_normal((4, steps, channels)) for _ in range(3))
    weights = np.zeros((4, steps, channels, channels))
    for t in range(steps):
        write = key[:, t, :, None] * value[:, t, None]
        weights[:, t] = decay * weights[:, t - 1] + write if t else write
    readout = np.einsum("btkv,btk->btv", weights, query)
    sides = {"key": "pre", "value": "post", "query": "pre", "readout": "post"}
    streams = zip(sides, (key, value, query, readout), strict=True)
    made = xr.Dataset({name: (("trial", "step", sides[name]), x) for name, x in streams})
    made["weights"] = ("trial", "step", "pre", "post"), weights
    for name in ("weights", "readout"):
        made[name] = made[name] + 0.1 * rng.standard_normal(made[name].shape)
    unseen = "readout" if observed == "weights" else "weights"
    path = write_csv(made.drop_vars(unseen), tmp_path / "own.csv")
    frame = pd.read_csv(path)
    frame = frame[(frame.trial > 0) | (frame.step < 18)]
    early = read(_written(frame, path))
    alone = pd.DataFrame({"step": [*range(steps + 12)], "trial": 4}).reindex(columns=frame.columns)
    silent = [c for c in frame if c.startswith(("key", "value", "query"))]
    alone = alone.assign(**dict.fromkeys(silent, 0.0))
    longer = read(_written(pd.concat([frame, alone]), path))
    assert (early.steps, longer.steps) == (steps, steps + 12)
    rules = [RULES[name] for name in ("hebb", "retnet", "delta")]
    first, second = (identify(x, rules=rules, observed=observed) for x in (early, longer))
    assert first.rules == second.rules == ("retnet",)
    for rule in ("hebb", "retnet", "delta"):
        for one, other in zip(first[rule].parameters, second[rule].parameters, strict=True):
            assert_close(other.value, one.value, "fits")
    (found,) = (p for p in first["retnet"].parameters if p.name == "decay")
    assert abs(found.value - decay) < 5 * (found.high - found.low) / 4


def test_steps_may_start_at_any_number(table, tmp_path):
    path = tmp_path / "own.csv"
    table.assign(step=table.step + 17).to_csv(path, index=False)
    assert read(path).steps == 6


def test_read_outs_need_what_was_asked(table, told):
    weights = ["weight_0_0", "weight_1_0"]
    seen = table.drop(columns=weights).assign(readout_0=1.0)
    assert "nothing says what was asked" in told(seen)
