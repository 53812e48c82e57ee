"""`fwbio sweep capacity`: what it writes, and that a sweep's own command repeats it."""

import itertools
import re

import numpy as np
import xarray as xr
from click.testing import CliRunner
from tolerances import assert_close

from fwbio.analyses.capacity import capacity
from fwbio.analyses.capacity_command import capacity_command
from fwbio.analyses.capacity_measures import MEASURES
from fwbio.analyses.cli import main
from fwbio.analyses.words import number, over_trials


def test_the_command_writes_table_figure_and_dataset(tmp_path):
    words = "--values 3,6 --rules hebb --trials 3 --size pre=8 --size values=sign --out"
    done = CliRunner().invoke(capacity_command, [*words.split(), str(tmp_path)])
    assert done.exit_code == 0, done.output
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"capacity_pairs.nc", "capacity_pairs.csv", "capacity_pairs.png"}
    first, *rows = (tmp_path / "capacity_pairs.csv").read_text().splitlines()
    assert first == "measure,programmer,substrate,rule,pairs,value,se,theory,z"
    assert len(rows) == 2 * len(MEASURES)


def test_the_command_prints_what_it_measured(tmp_path):
    words = "--values 2,9 --rules hebb --trials 4 --substrates reference,kernel --size pre=8"
    words = [*words.split(), "--size", "values=sign", "--trials-on", "kernel=1"]
    done = CliRunner().invoke(capacity_command, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    measured = xr.open_dataset(tmp_path / "capacity_pairs.nc", engine="h5netcdf")
    printed = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
    for substrate, pairs in itertools.product(("reference", "kernel"), (2, 9)):
        at = measured.sel(substrate=substrate, pairs=pairs).isel(rule=0, programmer=0)
        (row,) = (r for r in printed if r[:4] == ["designed", substrate, "hebb", str(pairs)])
        told, *spread = row[4].split(" ", 1)
        assert abs(float(told) - float(at.recall_accuracy)) <= 5e-4
        assert row[5] == number(float(at.noise_power))
        error = float(at.recall_accuracy_se)
        assert spread == ([] if np.isnan(error) else [over_trials(error, 4)])


def test_the_command_refuses_words_for_numbers(tmp_path):
    words = ["--values", "few", "--out", str(tmp_path)]
    assert CliRunner().invoke(capacity_command, words).exit_code == 2


def test_a_sweeps_command_repeats_it(tmp_path):
    swept = capacity(
        axis="active",
        values=(0.25, 0.5),
        rules=("hebb",),
        trials=3,
        pairs=4,
        sizes={"pre": 8},
        code={"time_constant": 8},
        progress=False,
    )
    fwbio, *words = swept.attrs["command"].split()
    assert fwbio == "fwbio"
    words[words.index("DIR")] = str(tmp_path)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    again = xr.open_dataset(tmp_path / "capacity_active.nc", engine="h5netcdf")
    assert_close(again.signal.values, swept.signal.values, "float64")
