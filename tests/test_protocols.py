"""Protocols: complete datasets, figures that draw them, and the command that runs them."""

import brian2 as b2
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from matplotlib.figure import Figure

from fwbio import RULES, FwbioError, record
from fwbio.analyses import cli, protocol_plots, protocols
from fwbio.models import receptors
from fwbio.models.plasticity import PLASTICITY, plasticity
from fwbio.models.protocols import PROTOCOLS
from fwbio.models.simulation import engine
from fwbio.models.synapse import PlasticSynapse

PRESETS = {"calcium": "cortical_slice", "tsodyks_markram": "depressing"}


@pytest.mark.parametrize("rule", PLASTICITY)
def test_a_plasticity_model_follows_the_rule_of_its_name(rule):
    presets = [PRESETS[rule]] if rule in PRESETS else []
    synapse = plasticity(rule, *presets).synapse()
    assert isinstance(synapse, PlasticSynapse)
    assert synapse.rule == rule
    assert rule in RULES


def test_every_rule_of_a_synapse_has_its_model():
    synaptic = {name for name, r in RULES.items() if r.terms.plasticity != "product"}
    assert synaptic | {"oja"} == PLASTICITY.keys() | {"thresholded_delta"}
    with pytest.raises(FwbioError, match="no plasticity model called 'stp'; did you mean 'stdp'"):
        plasticity("stp")


@pytest.mark.parametrize(
    ("arguments", "parameters", "words"),
    [
        (("calcium",), {}, "'calcium' needs a preset; choose from .*cortical_slice"),
        (("oja", "dp"), {}, "'dp' is no preset of 'oja'; leave it out"),
        (("calcium", "cortex"), {}, "no set of parameters called 'cortex'"),
        (("calcium", "dp"), {"theta_p": 0.5}, "theta_d = 1 is not below theta_p = 0.5"),
        (("stdp",), {"tau_pluss": 0.02}, "no parameter called 'tau_pluss'; did you mean"),
        (("stdp",), {"tau_plus": 20 * b2.ms}, "is no plain number; give it in SI units"),
    ],
)
def test_a_model_that_is_none_is_told(arguments, parameters, words):
    with pytest.raises(FwbioError, match=words):
        plasticity(*arguments, **parameters)


def test_a_plastic_synapse_may_transmit(seed):
    """In a network of one's own: spikes act on the cell by the weight, and change the weight."""
    receptor = receptors.exponential("ampa", tau=5e-3, weight="w")
    plastic = plasticity("stdp").synapse()
    acting = plastic.transmitting(receptor.on_pre, receptor.namespace)
    with engine("numpy", 1e-4, seed):
        pre = b2.SpikeGeneratorGroup(2, [0, 1], [5, 5] * b2.ms)
        cells = b2.NeuronGroup(
            1,
            receptor.equations,
            threshold="s_ampa > 10",
            reset="",
            method="exact",
            namespace=dict(receptor.namespace),
        )
        synapses = acting.connect(pre, cells, [0, 1], [0, 0])
        synapses.w = [0.25, 0.5]
        b2.Network(pre, cells, synapses).run(10 * b2.ms, namespace={})
        reached = float(cells.s_ampa[0])
    assert reached == pytest.approx(0.75 * np.exp(-(10 - 5.1) / 5), rel=0.05)


def test_every_plasticity_model_has_a_protocol():
    named = {"calcium": "graupner_brunel"}
    assert {named.get(rule, rule) for rule in PLASTICITY} <= PROTOCOLS.keys()


@pytest.fixture
def dataset():
    """Two panels: one of two series with a closed form and published points, one of one curve."""
    x = xr.DataArray([1.0, 2.0, 3.0], dims="lag", attrs={"units": "ms", "long_name": "lag"})
    two = np.arange(6.0).reshape(2, 3) - 2
    return xr.Dataset(
        {
            "change": (("order", "lag"), two, {"units": "1", "long_name": "change"}),
            "change_expected": (("order", "fine_expected"), np.zeros((2, 5))),
            "change_se": (("order", "lag"), 0.1 + 0 * two),
            "change_published": (("order", "lag"), two + 0.1),
            "change_published_se": (("order", "lag"), 0.2 + 0 * two),
            "rate": ("lag", [1.0, 2.0, 3.0], {"units": "Hz", "scale": "log"}),
        },
        coords={"lag": x, "order": ["pre", "post"], "fine_expected": np.linspace(1, 3, 5)},
        attrs={"title": "A protocol", "claim": "none", "source": "2026", "seed": 0},
    )


def test_a_figure_has_a_panel_for_each_variable(dataset):
    figure = Figure()
    first, second = protocol_plots.protocol(dataset, figure)
    assert protocol_plots.panels(dataset) == ["change", "rate"]
    assert (first.get_xlabel(), first.get_ylabel()) == ("lag (ms)", "change (dimensionless)")
    assert (second.get_ylabel(), second.get_yscale()) == ("rate (Hz)", "log")
    labels = [text.get_text() for text in first.get_legend().get_texts()]
    assert set(labels) == {"pre", "post", "published", "closed form"}
    grey = [line for line in first.lines if line.get_color() == "#888888" and len(line.get_xdata())]
    assert len(grey) == 2


def test_a_dataset_without_variables_is_told():
    with pytest.raises(FwbioError, match="there is nothing to draw"):
        protocol_plots.protocol(xr.Dataset(), Figure())


def test_the_command_lists_runs_and_refuses(tmp_path, dataset, monkeypatch):
    run = CliRunner().invoke(cli.main, ["protocol"])
    assert run.exit_code == 0
    assert all(name in run.stdout for name in PROTOCOLS)
    asked = {"quick": lambda seed, progress: dataset.assign_attrs(seed=seed)}
    monkeypatch.setattr("fwbio.models.protocols.PROTOCOLS", asked)
    run = CliRunner().invoke(cli.main, ["protocol", "quick", "--seed", "3", "--out", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert run.stdout.split() == [str(tmp_path / name) for name in ("quick.nc", "quick.png")]
    assert record.load(tmp_path / "quick.nc").attrs["seed"] == 3
    assert (tmp_path / "quick.png").read_bytes()[:4] == b"\x89PNG"
    run = CliRunner().invoke(cli.main, ["protocol", "quack", "--out", str(tmp_path)])
    assert run.exit_code == 2
    assert "there is no protocol called 'quack'; did you mean 'quick'?" in run.stderr


@pytest.mark.parametrize("name", ["stdp", "magnesium_block", "turnover"])
def test_a_protocol_tells_what_it_shows_and_by_whom(name, tmp_path):
    """The others' outcomes are asserted where their models are tested."""
    data, picture = protocols.run(name, tmp_path)
    found = record.load(data)
    assert {"title", "claim", "source", "seed"} <= found.attrs.keys()
    for panel in protocol_plots.panels(found):
        x = found[found[panel].dims[-1]]
        assert "units" in found[panel].attrs
        assert {"units", "long_name"} <= x.attrs.keys()
    assert picture.stat().st_size > 10_000


def test_every_protocol_says_in_a_line_what_it_is():
    assert all(len(title.split()) > 4 for title in protocols.listed().values())
