"""Records: checked in words, saved whole or not at all, and read back as they were."""

import numpy as np
import pytest
import xarray as xr
from programs import random_program

from fwbio import RULES, FwbioError, record, reference
from fwbio.files import written_aside

SUFFIXES = (".nc", ".zarr")
stores = pytest.mark.parametrize("suffix", SUFFIXES)


@pytest.fixture
def run(rng):
    made = random_program("linear_attention", rng, heads=2)
    return reference.execute(made.assign(scored=made.beta > 0.5), weights="all")


@pytest.fixture
def tree(run, rng):
    delta = reference.execute(random_program("delta", rng))
    table = xr.Dataset(
        {"value": ("row", [0.5, 1.0]), "metric": ("row", ["recall_accuracy", "relative_error"])}
    )
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"seeds": [1, 2], "title": None}),
            "/designed/reference/linear_attention": run,
            "/designed/reference/delta": delta,
            "/summary": table,
        }
    )


def with_label(run, **attrs):
    return run.assign(key=run.key.assign_attrs(attrs))


FAULTY = {
    "the rule's name is missing": (
        lambda run: run.drop_attrs(deep=False),
        "the attribute 'rule' is missing",
    ),
    "no read-out": (lambda run: run.drop_vars("readout"), "the variable 'readout' is missing"),
    "no weights": (lambda run: run.drop_vars("weights"), "the variable 'weights' is missing"),
    "NaN": (
        lambda run: run.assign(readout=run.readout.where(run.step != 3)),
        "'readout' is NaN or infinite in 12 places, first at trial 0, head 0, step 3, post 0 (nan)",
    ),
    "infinite": (
        lambda run: run.assign(weights=run.weights / 0.0),
        "'weights' is NaN or infinite in 288 places, first at trial 0",
    ),
    "axes in another order": (
        lambda run: run.transpose("post", ...),
        "which should end in ('step', 'post')",
    ),
    "an axis lost": (
        lambda run: run.assign(readout=run.readout.sum("post")),
        "'readout' has dims ('trial', 'head', 'step') and lacks post",
    ),
    "scores that are no truth values": (
        lambda run: run.assign(scored=run.scored * 1.0),
        "'scored' should be true or false at each step",
    ),
    "words": (lambda run: run.assign(key=run.key.astype(str)), "'key' holds <U"),
    "an unlabelled variable": (
        lambda run: run.assign(voltage=("time", [0.1])),
        "'voltage' is not in the schema and has no 'units'",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_what_the_reference_makes_is_sound(rule, rng):
    assert record.validate(reference.execute(random_program(rule, rng))) == []


@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_a_fault_is_told_in_words(fault, run):
    breaking, told = FAULTY[fault]
    faults = record.validate(breaking(run))
    assert any(told in words for words in faults), faults
    with pytest.raises(FwbioError, match=r"see fwbio\.record\.validate for every fault"):
        record.require(breaking(run), where="here")


@pytest.mark.parametrize("thing", [None, 3, {"key": 1}, np.ones(3), xr.DataArray([1.0])])
def test_what_is_no_dataset_is_a_fault(thing):
    assert record.validate(thing) == [
        f"a dataset of fwbio.program.make is needed, not {type(thing).__name__}"
    ]
    with pytest.raises(FwbioError, match=f"^here: .* not {type(thing).__name__};"):
        record.require(thing, where="here")


def test_every_fault_is_listed(run):
    broken = run.drop_vars(["readout", "weights"]).assign(voltage=("time", [0.1]))
    assert len(record.validate(broken)) == 4
    with pytest.raises(FwbioError, match=r"^here: .* \(and 3 more\); mend the data"):
        record.require(broken, where="here")


def test_a_labelled_variable_of_one_s_own_is_welcome(run):
    voltage = xr.DataArray([0.1], dims="time", attrs={"units": "V", "long_name": "membrane"})
    assert record.validate(run.assign(voltage=voltage)) == []


@pytest.mark.parametrize("thing", [None, {"key": 1}, np.ones(3), xr.DataArray([1.0])])
def test_what_is_no_dataset_is_not_saved(thing, tmp_path):
    with pytest.raises(FwbioError, match=f"^record: {type(thing).__name__} is no record; give"):
        record.save(thing, tmp_path / "run.nc")
    with pytest.raises(FwbioError, match="is no record"):
        record.save_blocks([thing], tmp_path / "run.zarr")
    assert not list(tmp_path.iterdir())


@stores
def test_a_record_comes_back_as_it_was(suffix, run, tmp_path):
    path = record.save(run, tmp_path / f"run{suffix}")
    assert record.load(path).load().identical(run)


@stores
def test_a_tree_comes_back_as_it_was(suffix, tree, tmp_path):
    path = record.save(tree, tmp_path / f"tree{suffix}")
    assert record.load(path).load().identical(tree)


ATTRIBUTES = {
    "nothing": None,
    "yes": True,
    "no": False,
    "whole": 3,
    "real": 0.1,
    "word": "one",
    "empty": "",
    "looks_encoded": 'json:{"a": 1}',
    "list": [1, None, "a"],
    "empty_list": [],
    "nested": {"a": {"b": [1, 2]}, "c": None, "d": True},
}


@stores
def test_attributes_come_back_as_they_were(suffix, run, tmp_path):
    labelled = with_label(run, **ATTRIBUTES).assign_attrs(ATTRIBUTES)
    back = record.load(record.save(labelled, tmp_path / f"run{suffix}"))
    for holder in (back, back.key):
        for name, value in ATTRIBUTES.items():
            assert holder.attrs[name] == value
            assert type(holder.attrs[name]) is type(value)


@stores
def test_numpy_attributes_come_back_as_plain_ones(suffix, run, tmp_path):
    given = {
        "truth": np.bool_(True),
        "whole": np.int64(3),
        "real": np.float32(0.5),
        "array": np.arange(3),
        "nested": {"array": np.array([0.5]), "whole": np.int64(1)},
    }
    back = record.load(record.save(run.assign_attrs(given), tmp_path / f"run{suffix}"))
    plain = {"truth": True, "whole": 3, "real": 0.5, "array": [0, 1, 2]}
    plain["nested"] = {"array": [0.5], "whole": 1}
    assert {name: back.attrs[name] for name in given} == plain


@stores
def test_saving_leaves_the_record_unchanged(suffix, tree, tmp_path):
    before = tree.copy(deep=True)
    record.save(tree, tmp_path / f"tree{suffix}")
    assert tree.identical(before)


@stores
def test_saving_again_replaces_and_leaves_nothing_beside(suffix, run, tree, tmp_path):
    path = tmp_path / "deep" / "er" / f"run{suffix}"
    record.save(tree, path)
    record.save(run, path)
    assert record.load(path).load().identical(run)
    assert list(path.parent.iterdir()) == [path]


@stores
def test_a_write_that_breaks_off_leaves_the_old_file(suffix, run, tmp_path, monkeypatch):
    path = record.save(run, tmp_path / f"run{suffix}")

    def half_written(self, aside, **_):
        aside.mkdir() if suffix == ".zarr" else aside.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_netcdf", half_written)
    monkeypatch.setattr(xr.Dataset, "to_zarr", half_written)
    with pytest.raises(KeyboardInterrupt):
        record.save(run.isel(trial=0), path)
    assert list(tmp_path.iterdir()) == [path]
    assert record.load(path).load().identical(run)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_written_aside_cleans_up_after_any_end(error, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), written_aside(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with written_aside(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "new"


@stores
def test_a_folder_that_can_not_be_made_is_told(suffix, run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FwbioError, match=r"can't be written .*; name a folder that you may write"):
        record.save(run, tmp_path / "file" / f"run{suffix}")


@pytest.mark.parametrize("name", ["run", "run.csv", "run.nc.gz"])
def test_an_unknown_suffix_is_told(name, run, tmp_path):
    with pytest.raises(FwbioError, match=r"names no store; end the name in \.nc .* or \.zarr"):
        record.save(run, tmp_path / name)


@stores
def test_a_missing_file_is_told(suffix, tmp_path):
    with pytest.raises(FwbioError, match=r"there is no such file; check the name"):
        record.load(tmp_path / f"none{suffix}")


def test_a_folder_is_no_record(tmp_path):
    with pytest.raises(
        FwbioError, match=r"a folder is not a record; name the \.nc or \.zarr in it"
    ):
        record.load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_cut_short_is_told(share, run, tmp_path):
    path = record.save(run, tmp_path / "run.nc")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FwbioError, match=r"not a whole record .*; make it again") as error:
        record.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damaged", [".zgroup", ".zattrs", "readout/.zarray"])
def test_a_damaged_folder_is_told(damaged, run, tmp_path):
    path = record.save(run, tmp_path / "run.zarr")
    (path / damaged).write_text((path / damaged).read_text()[:10])
    with pytest.raises(FwbioError, match=r"not a whole record .*; make it again"):
        record.load(path)


@pytest.mark.parametrize(("kind", "suffix"), [("file", ".zarr"), ("folder", ".nc")])
def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(kind, suffix, run, tmp_path):
    path = tmp_path / f"run{suffix}"
    path.touch() if kind == "file" else path.mkdir()
    with pytest.raises(FwbioError, match=r"can't be written \((Not|Is) a directory\)"):
        record.save(run, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_lost_chunk_is_found(run, tmp_path):
    path = record.save(run, tmp_path / "run.zarr")
    for chunk in (path / "readout").glob("[0-9]*"):
        chunk.unlink()
    (fault,) = record.validate(record.load(path))
    assert fault.startswith("'readout' is NaN or infinite")


def test_an_empty_folder_is_told(tmp_path):
    (tmp_path / "run.zarr").mkdir()
    with pytest.raises(FwbioError, match=r"not a whole record"):
        record.load(tmp_path / "run.zarr")


def test_zarr_is_read_when_it_is_needed(run, tmp_path):
    back = record.load(record.save(run, tmp_path / "run.zarr"))
    assert not back.weights.variable._in_memory
    assert record.load(record.save(run, tmp_path / "run.nc")).weights.variable._in_memory


def test_versions_name_what_numbers_depend_on():
    versions = record.versions()
    assert versions["numpy"] == np.__version__
    assert {"fwbio", "xarray", "torch", "brian2"} <= versions.keys()


def weights_of_every_step():
    """A user's own recording: a sum of outer products, seen at every step, without attributes."""
    rng = np.random.default_rng(0)
    key, value = rng.standard_normal((12, 5)), rng.standard_normal((12, 3))
    return xr.Dataset(
        {
            "key": (("step", "pre"), key),
            "value": (("step", "post"), value),
            "weights": (("step", "pre", "post"), np.cumsum(key[:, :, None] * value[:, None], 0)),
        }
    )


def test_weights_over_steps_are_weights_with_a_snapshot_after_every_step(rng):
    mine = weights_of_every_step()
    assert record.validate(mine.assign_attrs(rule="hebb"), need=("key", "weights")) == []
    timed = mine.assign_coords(step=0.1 * np.arange(12))  # seconds are no places in the program
    for given in (mine, timed, mine.rename(step="snapshot").weights.to_dataset()):
        found = record.with_snapshots(given)
        assert found.weights.dims == ("snapshot", "pre", "post")
        np.testing.assert_array_equal(found.weights.values, mine.weights.values)
    np.testing.assert_array_equal(record.with_snapshots(timed).snapshot, np.arange(12))
    kept = reference.execute(random_program("delta", rng), weights=2)
    assert record.with_snapshots(kept).identical(kept)
    with pytest.raises(FwbioError, match="snapshot or step, pre, post"):
        record.with_snapshots(mine.isel(step=-1))
    with pytest.raises(FwbioError, match="snapshot or step, pre, post"):
        record.with_snapshots(mine.rename(post="cell"))
