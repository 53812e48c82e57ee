"""The benchmark: it refuses what is wrong, says what is missing, and counts what it claims to."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from matplotlib.figure import Figure
from tolerances import TOLERANCES, assert_close
from torch.utils.flop_counter import FlopCounterMode

from fwbio import RULES, FwbioError
from fwbio.analyses.benchmarks import kernels as bench
from fwbio.analyses.benchmarks import measure as bench_measure
from fwbio.analyses.benchmarks import outputs as bench_outputs
from fwbio.analyses.benchmarks import peers as bench_peers
from fwbio.analyses.benchmarks import plots as bench_plots
from fwbio.analyses.benchmarks import roofline
from fwbio.analyses.benchmarks.measure import QUICK, Effort
from fwbio.analyses.benchmarks.peers import FLA, PEERS, Implementation
from fwbio.analyses.benchmarks.rows import DIRECTIONS, LINEAR, ROWS, Row, small
from fwbio.analyses.benchmarks.scaling import SWEEPS, exponent, fits
from fwbio.analyses.cli import main
from fwbio.kernels import scan

SMALL = {"B": 1, "T": 128, "H": 2, "K": 16, "V": 16, "dtype": "float32"}
RATES = roofline.Rates(copy=1e9, matrix=1e10, batched=1e10)


def implementation(run, rule="gated_delta", **options):
    known = {"name": "rival", "rule": rule, "device": "cpu", "package": FLA, "source": "here"}
    return Implementation(**known | {"run": run} | options)


def scanned(rule, **tensors):
    return scan(rule, **tensors, scale=tensors["k"].shape[-1] ** -0.5)[0]


def measured(row, rivals=(), **options):
    known = {"rates": RATES, "threads": 1, "seed": 1, "effort": QUICK, "rivals": rivals}
    entries = bench.measured([row], ["recurrent"], **known | options)
    return {entry["implementation"]: entry for entry in entries}


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(bench_peers, "installed_version", lambda package: "1")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_wrong_implementation_gets_no_speed(direction):
    def louder(**tensors):
        return 1.03 * scanned("gated_delta", **tensors)

    row = Row(rule="gated_delta", direction=direction, **SMALL)
    found = measured(row, [implementation(louder)])
    wrong, right = found["rival"], found["fwbio recurrent"]
    assert (wrong["status"], wrong["reason"]) == ("wrong", "wrong: error 3e-02")
    assert wrong["seconds"] is wrong["ratio"] is wrong["copy_fraction"] is None
    assert right["status"] == "measured"
    assert right["seconds"] > 0
    assert right["ratio"] is None  # there is no right peer


@pytest.mark.usefixtures("installed")
def test_a_wrong_gradient_gets_no_speed():
    """Whose read-outs are right to the bit."""

    def steeper(q, **tensors):
        return scanned("delta", q=2 * q - q.detach(), **tensors)

    rival = implementation(steeper, rule="delta")
    forward, backward = (
        measured(Row(rule="delta", direction=direction, **SMALL), [rival])["rival"]
        for direction in DIRECTIONS
    )
    assert forward["status"] == "measured"
    assert (backward["status"], backward["error_of"]) == ("wrong", "q")
    assert backward["error"] == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("spoil", [lambda y: y * float("nan"), lambda y: y[:, :-1]])
def test_what_is_not_finite_or_not_whole_is_wrong_in_json_too(spoil, tmp_path):
    rival = implementation(lambda **x: spoil(scanned("hebb", **x)), rule="hebb")
    entries = measured(Row(rule="hebb", **SMALL), [rival])
    told = entries["rival"]
    assert (told["status"], told["reason"]) == ("wrong", "wrong: not finite or misshapen")
    found = {"results": list(entries.values()), "scaling": []}
    bench_outputs.write(found, tmp_path)
    assert json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8")) == found


@pytest.mark.usefixtures("installed")
def test_ours_are_held_to_more_than_peers():
    def near(**tensors):
        return 1.001 * scanned("hebb", **tensors)

    row, peer = Row(rule="hebb", **SMALL), implementation(near, rule="hebb")
    assert measured(row, [peer])["rival"]["status"] == "measured"
    ours = dataclasses.replace(peer, package=None)
    assert measured(row, [ours])["rival"]["status"] == "wrong"
    for dtype, gate in bench_measure.GATES.items():
        assert gate.ours == TOLERANCES[dtype].value
        assert gate.peers >= gate.ours


@pytest.mark.usefixtures("installed")
def test_what_fails_is_told_and_the_others_go_on():
    def failing(**_):
        raise NotImplementedError("no backward\nyet")

    found = measured(Row(rule="hebb", **SMALL), [implementation(failing, rule="hebb")])
    told = found["rival"]
    assert (told["status"], told["error"]) == ("not measured", None)
    assert told["reason"] == "fails: NotImplementedError: no backward yet"
    assert found["fwbio recurrent"]["status"] == "measured"


@pytest.mark.usefixtures("installed")
def test_the_best_right_peer_is_the_measure():
    def slower(**tensors):
        scanned("hebb", **tensors)
        return scanned("hebb", **tensors)

    def wrong(q, k, v):
        return v

    rivals = [
        implementation(lambda **tensors: scanned("hebb", **tensors), rule="hebb", name="one"),
        implementation(slower, rule="hebb", name="two"),
        implementation(wrong, rule="hebb", name="wrong"),
    ]
    found = measured(Row(rule="hebb", **SMALL), rivals)
    best = min(("one", "two"), key=lambda name: found[name]["seconds"])
    for name in ("one", "two", "fwbio recurrent"):
        assert found[name]["best_peer"] == best
        ratio = found[best]["seconds"] / found[name]["seconds"]
        assert found[name]["ratio"] == pytest.approx(ratio)
    assert found["wrong"]["best_peer"] is None


@pytest.mark.parametrize("rule", LINEAR)
def test_the_reference_in_segments_is_the_reference(rule):
    row = dataclasses.replace(Row(rule=rule, **SMALL), T=150, K=5, V=3)
    tensors, cotangent = bench_measure.operands(row, seed=3)
    found = bench_measure.reference(row, tensors, cotangent)
    leaves = {name: x.double().requires_grad_() for name, x in tensors.items()}
    y = scan(rule, **leaves, scale=row.scale, backend="recurrent")[0]
    expected = torch.autograd.grad(y, list(leaves.values()), cotangent.double())
    assert_close(found["y"], y.detach(), "float64")
    for name, gradient in zip(leaves, expected, strict=True):
        assert_close(found[name], gradient, "float64")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_layouts_and_scales_are_taken_out_of_the_timed_part(direction):
    def heads_first(q, k, v, log_decay):
        streams = {"q": q, "k": k, "v": v, "log_decay": log_decay}
        assert all(x.shape[1:3] == (2, 128) and x.is_contiguous() for x in streams.values())
        y = scan("mamba2", **{name: x.transpose(1, 2) for name, x in streams.items()})[0]
        return y.transpose(1, 2)

    row = Row(rule="mamba2", direction=direction, **SMALL)
    tensors, cotangent = bench_measure.operands(row, seed=4)
    moved = implementation(heads_first, rule="mamba2", heads_first=True, unscaled=True)
    call, named = bench_measure.prepared(moved, row, tensors, cotangent)
    backward = cotangent if direction == "forward+backward" else None
    errors = bench_measure.errors(named(call()), bench_measure.reference(row, tensors, backward))
    assert set(errors) == ({"y", *tensors} if backward is not None else {"y"})
    assert max(errors.values()) <= bench_measure.GATES["float32"].ours


def test_errors_are_relative_and_never_lost():
    expected = {name: torch.tensor([0.0, -4.0]) for name in "abcd"} | {"d": torch.zeros(2)}
    actual = {
        "a": torch.tensor([1.0, -4.0]),
        "b": torch.tensor([float("nan"), -4.0]),
        "c": torch.zeros(3),
        "d": torch.zeros(2),
    }
    assert bench_measure.errors(actual, expected) == {"a": 0.25, "b": np.inf, "c": np.inf, "d": 0}


def test_calls_are_timed_in_turns():
    ran = []
    calls = {name: lambda name=name: ran.append(name) for name in "ab"}
    found = bench_measure.timed(calls, threads=1, effort=Effort(seconds=0, least=3, most=3))
    turns = "".join(name for name, _ in itertools.groupby(ran))
    assert turns == "ab" * 4  # one to learn how long they take
    assert all(timing.blocks == 3 and timing.median > 0 for timing in found.values())
    assert bench_measure.timed({}, threads=1, effort=QUICK) == {}


def test_memory_is_the_peak_of_what_lives_at_once():
    cell = torch.ones(1)

    def call():
        for _ in range(2):
            both = cell.expand(2**18).clone(), cell.expand(2**18).clone()
            del both
        return (cell.expand(2**10).clone(),)

    assert bench_measure.peak_bytes(call, "cpu") == 2 * 2**20


def chunkwise(row, q, k, v, beta=None, log_decay=None):
    """The chunked form as it stands in print, every product dense, on one [C, .] chunk a time."""
    C = roofline.CHUNK
    state = torch.zeros(row.B, row.H, row.K, row.V, dtype=q.dtype)
    readouts = []
    for start in range(0, row.T, C):
        Q, K, V = (x[:, start : start + C].transpose(1, 2) for x in (q, k, v))
        g = torch.zeros_like(Q[..., 0])
        if log_decay is not None:
            g = log_decay[:, start : start + C].transpose(1, 2).cumsum(-1)
        decay = (g[..., :, None] - g[..., None, :]).tril().exp().tril()
        if beta is None:
            U = V
        else:
            b = beta[:, start : start + C].transpose(1, 2)[..., None]
            strict = (b * decay * (K @ K.transpose(-1, -2))).tril(-1)
            eye = torch.eye(C, dtype=q.dtype).expand_as(strict)
            T = torch.linalg.solve_triangular(eye + strict, eye, upper=False) * b.transpose(-1, -2)
            U = T @ V - (T @ (g.exp()[..., None] * K)) @ state
        scores = (Q @ K.transpose(-1, -2)) * decay
        readouts.append((g.exp()[..., None] * Q) @ state + scores @ U)
        last = g[..., -1:]
        kept = ((last - g).exp()[..., None] * K).transpose(-1, -2)
        state = last.exp()[..., None] * state + kept @ U
    return row.scale * torch.cat(readouts, 2).transpose(1, 2)


@pytest.mark.parametrize("rule", ["hebb", "mamba2", "delta", "gated_delta"])
def test_operations_are_those_of_the_chunked_form(rule):
    row = Row(rule=rule, B=2, T=192, H=3, K=16, V=24, dtype="float32")
    tensors = bench_measure.operands(row, seed=5)[0]
    with FlopCounterMode(display=False) as counter:
        y = chunkwise(row, **tensors)
    expected = bench_measure.reference(row, tensors, None)["y"]
    assert_close(y, expected, "float32")
    N, C = row.B * row.T * row.H, roofline.CHUNK
    inverse = N * C**2 / 3 if RULES[rule].terms.erase != "none" else 0  # torch counts products only
    assert roofline.operations(row) == pytest.approx(counter.get_total_flops() + inverse)
    both = dataclasses.replace(row, direction="forward+backward")
    assert roofline.operations(both) == 3 * roofline.operations(row)


@pytest.mark.parametrize("rule", LINEAR)
def test_bytes_are_those_of_the_tensors(rule):
    row = Row(rule=rule, B=2, T=7, H=3, K=5, V=4, dtype="bfloat16")
    tensors, cotangent = bench_measure.operands(row, seed=6)
    inputs, outputs = sum(x.nbytes for x in tensors.values()), cotangent.nbytes
    assert roofline.bytes_moved(row) == inputs + outputs
    both = dataclasses.replace(row, direction="forward+backward")
    assert roofline.bytes_moved(both) == 3 * inputs + 2 * outputs


def test_the_floor_is_what_takes_longer():
    row = Row(rule="hebb", **SMALL)
    by_copy = roofline.Rates(copy=1.0, matrix=1e12, batched=1e12)
    assert roofline.floor_seconds(row, by_copy) == roofline.bytes_moved(row)
    by_product = roofline.Rates(copy=1e12, matrix=1.0, batched=1.0)
    assert roofline.floor_seconds(row, by_product) == roofline.operations(row)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_fit_finds_the_exponent_within_its_error(power, rng):
    sizes = 2.0 ** np.arange(8, 17)
    costs = 3e-6 * sizes**power * np.exp(rng.normal(0, 0.05, sizes.size))
    found, error = exponent(sizes, costs)
    assert abs(found - power) < TOLERANCES["standard errors"].value * error
    assert 0 < error < 0.05
    assert exponent(sizes, np.full(sizes.size, 7.0)) == (0.0, 0.0)
    with pytest.raises(FwbioError, match="three positive sizes"):
        exponent([1, 2], [1, 2])


def test_fits_are_to_the_larger_sizes():
    """The cost of a call at all doesn't lower the exponent."""
    common = {"rule": "hebb", "backend": "chunked", "axis": "T", "direction": "forward"}
    points = [
        {**common, "size": size, "seconds": max(1e-3, 1e-6 * size), "extra_bytes": 0}
        for size in 2 ** np.arange(8, 17)
    ]
    (fit,) = fits(points)
    assert (fit["quantity"], fit["from"], fit["to"], fit["points"]) == ("seconds", 4096, 65536, 5)
    assert fit["exponent"] == pytest.approx(1)


def test_the_table_holds_the_shapes_that_are_claimed():
    for rule in LINEAR:
        mine = [row for row in ROWS if row.rule == rule]
        on_cpu = {(row.T, row.K, row.direction) for row in mine if row.device == "cpu"}
        assert on_cpu == set(itertools.product([2048], [64, 128], DIRECTIONS))
        assert {row.launch for row in mine if row.device == "gpu"} == {"eager", "graphed"}
        assert {peer.device for peer in PEERS if peer.rule == rule} == {"cpu", "gpu"}
    assert len(set(ROWS)) == len(ROWS)
    assert all(max(row.T, row.K) <= 128 for row in small(ROWS))
    assert {sweep.axis for sweep in SWEEPS} == {"T", "B"}


CPU_PEERS = [peer for peer in PEERS if peer.device == "cpu"]


@pytest.mark.parametrize("peer", CPU_PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_right(peer):
    if reason := peer.missing():
        pytest.skip(reason)
    row = Row(rule=peer.rule, direction="forward+backward", **SMALL)
    tensors, cotangent = bench_measure.operands(row, seed=7)
    call, named = bench_measure.prepared(peer, row, tensors, cotangent)
    errors = bench_measure.errors(named(call()), bench_measure.reference(row, tensors, cotangent))
    assert set(errors) == {"y", *tensors}
    assert max(errors.values()) <= bench_measure.GATES["float32"].peers


def run(*words):
    return CliRunner().invoke(main, ["bench", "kernels", *map(str, words)])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A quick run of one rule, without peers and without a GPU."""
    folder = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_peers, "installed_version", lambda package: None)
        patch.setattr(bench, "installed_version", lambda package: None)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        result = run("--quick", "--rules", "mamba2", "--threads", 1, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_a_quick_run_writes_json_table_and_figure(alone):
    folder, result = alone
    assert {path.name for path in folder.iterdir()} == {
        "kernels.json",
        "kernels.csv",
        "scaling.png",
    }
    found = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))
    assert set(found) == {
        *("schema", "fwbio", "machine", "settings", "gates"),
        *("rates", "results", "scaling", "fits"),
    }
    assert found["schema"] == bench.SCHEMA
    assert {"cpu", "cores", "threads", "gpu", "torch", "triton", "peers"} <= set(found["machine"])
    assert found["machine"]["gpu"] == "none"
    assert found["settings"]["quick"] is True
    assert all(rate["copy"] > 0 and rate["matrix"] > 0 for rate in found["rates"])
    columns = {tuple(entry) for entry in found["results"]}
    assert len(columns) == 1
    for entry in found["results"]:
        figures = [entry[name] for name in ("seconds", "error", "peak_bytes", "matrix_fraction")]
        if entry["status"] == "measured":
            assert all(x >= 0 for x in figures)
        else:
            assert figures == [None] * 4
            assert entry["reason"]
    table = pd.read_csv(folder / "kernels.csv")
    assert list(table.columns) == list(columns.pop())
    assert len(table) == len(found["results"])
    assert (folder / "scaling.png").read_bytes().startswith(b"\x89PNG")
    swept = {(point["axis"], point["backend"]) for point in found["scaling"]}
    assert swept == {("T", "chunked"), ("B", "chunked")}
    assert {"exponent", "standard_error"} <= set(found["fits"][0])
    assert "kernels.json" in result.stdout
    assert "row/s" in result.stderr or "s/row" in result.stderr


def test_missing_peers_and_a_missing_gpu_are_told(alone):
    folder, result = alone
    entries = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))["results"]
    peers = [entry for entry in entries if entry["device"] == "cpu" and not entry["ours"]]
    assert {entry["status"] for entry in peers} == {"not installed"}
    assert {entry["implementation"].split()[0] for entry in peers} == {"fla", "transformers"}
    assert all("pip install 'fwbio[bench]'" in entry["reason"] for entry in peers)
    printed = " ".join(result.stdout.split())
    assert "pip install 'fwbio[bench]'" in printed
    on_gpu = [entry for entry in entries if entry["device"] == "gpu"]
    assert {(entry["status"], entry["reason"]) for entry in on_gpu} == {
        ("not measured", "there is no GPU here")
    }
    assert "there is no GPU here" in printed


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--rules", "delt"], "rule: there is no rule called 'delt'; did you mean 'delta'?"),
        (["--rules", "oja"], "rules: no row measures 'oja'; choose from hebb"),
        (["--backend", "recurent"], "backend: there is no backend called 'recurent'; did you mean"),
        (["--rows", "tpu"], "bench kernels --rows: 'tpu' is not one of 'cpu', 'gpu', 'all'"),
        (["--threads", "0"], "threads: 0 is out of range; give an integer of at least 1"),
        (["--seed", "-1"], "seed: -1 is out of range"),
    ],
)
def test_mistakes_are_one_line(words, line, tmp_path):
    result = run(*words, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"fwbio: {line}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [(), ("kernels",)])
def test_help_has_an_example(words):
    result = CliRunner().invoke(main, ["bench", *words, "--help"])
    assert result.exit_code == 0
    assert "  fwbio bench kernels" in result.stdout
    assert CliRunner().invoke(main, ["bench"]).exit_code == 0


def test_the_figure_names_its_units():
    points = pd.DataFrame(
        {
            "rule": rule,
            "backend": backend,
            "axis": axis,
            "direction": "forward",
            **SMALL,
            "size": size,
            "seconds": 1e-6 * size,
            "extra_bytes": 2**10 * size,
        }
        for rule, backend in itertools.product(LINEAR, ["recurrent", "chunked"])
        for axis, size in itertools.product("TB", [1, 2, 4])
    )
    figure = Figure(layout="constrained")
    bench_plots.scaling_panels(points, figure)
    labels = [(ax.get_xlabel(), ax.get_ylabel().split("\n")[-1]) for ax in figure.axes]
    memory = "and results (MiB)"
    assert labels == [
        ("length (steps)", "time (ms)"),
        ("batch (trials)", "time (ms)"),
        ("length (steps)", memory),
    ]
    assert figure.axes[1].get_title() == "forward, T 128 H 2 K 16 V 16"
    lines = figure.axes[0].lines
    assert_close(lines[0].get_ydata(), 1e-3 * np.array([1, 2, 4]), "float64")
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines[:-1]}
    assert len(looks) == 2 * len(LINEAR)


def test_an_earlier_result_stays_where_writing_fails(tmp_path, monkeypatch):
    (tmp_path / "kernels.json").write_text("old")
    monkeypatch.setattr(bench_outputs, "_figure", lambda points: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench_outputs.write({"results": [], "scaling": [1]}, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"kernels.json": "old"}
