"""The table of rules: one row each, nothing but declarations.

The equations use W of shape (pre, post), keys k and queries q in R^K, values v in R^V, and read
after writing: y = W^T q. Sources marked "recalled" were not re-read for this table.
"""

from fwbio.errors import FwbioError
from fwbio.rule import Rule, Terms
from fwbio.table import Table

_AMPA = "AMPA conductance grows with the presynaptic rate times a slow NMDA-like teaching trace"
_TURNOVER = "receptors turn over between presentations"
_THRESHOLD = "the plasticity threshold moves with what the AMPA synapses already predict"

_TABLE = (
    Rule(
        name="hebb",
        equation="W <- W + beta k v^T;  y = W^T q",
        terms=Terms(),
        objective="-beta <v, W^T k>",
        biology=f"{_AMPA}; nothing forgets or corrects",
        source="Schmidhuber 1992, 10.1162/neco.1992.4.1.131; "
        "Schlag 2021, arXiv:2102.11174 eq. 10-11",
    ),
    Rule(
        name="linear_attention",
        equation="W <- W + beta phi(k) v^T;  z <- z + beta phi(k);  y = W^T phi(q) / (z^T phi(q));"
        "  phi(x) = elu(x) + 1",
        terms=Terms(feature="elu_plus_one", normaliser="sum"),
        objective="-beta <v, W^T phi(k)>",
        biology=f"{_AMPA}; an interneuron that sums the keys divides the read-out",
        source="Katharopoulos 2020, arXiv:2006.16236; Schlag 2021, arXiv:2102.11174 eq. 17-19",
    ),
    Rule(
        name="retnet",
        equation="W <- gamma W + beta k v^T;  y = W^T q;  gamma_h = 1 - 2^-(5 + h) unless given",
        terms=Terms(decay="scalar"),
        objective="-beta <v, W^T k> + (1 - gamma)/2 |W|^2",
        biology=f"{_AMPA}; {_TURNOVER} at one fixed rate",
        source="Sun 2023, arXiv:2307.08621",
        default_decay_offset=5.0,
    ),
    Rule(
        name="mamba2",
        equation="W <- alpha_t W + beta_t k v^T;  y = W^T q",
        terms=Terms(decay="scalar"),
        objective="-beta <v, W^T k> + (1 - alpha)/2 |W|^2",
        biology=f"{_AMPA}; {_TURNOVER} at a rate that the slow net sets",
        source="Dao & Gu 2024, arXiv:2405.21060",
    ),
    Rule(
        name="gla",
        equation="W <- diag(alpha_t) W + beta k v^T;  y = W^T q",
        terms=Terms(decay="channel"),
        objective="-beta <v, W^T k> + 1/2 sum_i (1 - alpha_i) |W_i|^2",
        biology=f"{_AMPA}; {_TURNOVER} at a rate of each presynaptic cell",
        source="Yang 2023, arXiv:2312.06635",
    ),
    Rule(
        name="mlstm",
        equation="W <- f W + beta k' v^T;  z <- f z + beta k';  y = W^T q / max(|z^T q|, 1);"
        "  f = alpha_t,  beta = exp(log_beta),  k' = k / sqrt(K)",
        terms=Terms(decay="scalar", write="exponential", feature="scaled", normaliser="bounded"),
        objective="-beta <v, W^T k'> + (1 - alpha)/2 |W|^2",
        biology=f"{_AMPA}, a strength that grows exponentially with its input; {_TURNOVER} at a"
        " rate that the slow net sets; an interneuron that sums the keys divides what is large",
        source="Beck 2024, arXiv:2405.04517",
    ),
    Rule(
        name="delta",
        equation="W <- W + k (beta (v - W^T k))^T;  y = W^T q",
        terms=Terms(erase="key"),
        objective="beta/2 |v - W^T k|^2",
        biology=f"{_AMPA}; {_THRESHOLD}",
        source="Widrow & Hoff 1960 (recalled); Schlag 2021, arXiv:2102.11174; "
        "Yang 2024, arXiv:2406.06484",
    ),
    Rule(
        name="gated_delta",
        equation="W~ = alpha W;  W <- W~ + k (beta (v - W~^T k))^T;  y = W^T q",
        terms=Terms(decay="scalar", erase="key"),
        objective="beta/2 |v - W~^T k|^2 after decay",
        biology=f"{_AMPA}; {_TURNOVER}, then {_THRESHOLD}",
        source="Yang 2024b, arXiv:2412.06464",
    ),
    Rule(
        name="kda",
        equation="W~ = diag(alpha) W;  W <- W~ + k (beta (v - W~^T k))^T;  y = W^T q",
        terms=Terms(decay="channel", erase="key"),
        objective="beta/2 |v - W~^T k|^2 after decay of each channel",
        biology=f"{_AMPA}; {_TURNOVER} at a rate of each presynaptic cell, then {_THRESHOLD}",
        source="Kimi Linear 2025, arXiv:2510.26692",
    ),
    Rule(
        name="gated_delta_2",
        equation="W~ = diag(alpha) W;  W <- W~ + k (beta * v)^T - k ((erase * k)^T W~);  y = W^T q",
        terms=Terms(decay="channel", write="channel", erase="gate"),
        objective="the delta rule's, with a write gate per post and an erase gate per pre channel",
        biology=f"{_AMPA}, scaled for each postsynaptic cell; {_TURNOVER} at a rate of each"
        " presynaptic cell; the prediction that moves the threshold is read by gated afferents",
        source="arXiv:2605.22791",
    ),
    Rule(
        name="comba",
        equation="W~ = alpha W;  W <- W~ + k (beta v)^T - k (beta p^T W~);  y = W^T q",
        terms=Terms(decay="scalar", erase="erase_key"),
        objective="<W~^T k, beta (W~^T p / 2 - v)>, exact for p = k",
        biology=f"{_AMPA}; the prediction that moves the threshold is read by other afferents p",
        source="Comba 2025, arXiv:2506.02475",
    ),
    Rule(
        name="longhorn",
        equation="W <- W + k (b (v - W^T k))^T,  b = beta / (1 + beta |k|^2);  y = W^T q",
        terms=Terms(erase="key", solve="implicit"),
        objective="1/2 |W' - W|^2 + beta/2 |v - W'^T k|^2, minimised over W'",
        biology=f"{_AMPA}; {_THRESHOLD}, taken as one implicit step",
        source="Liu 2024, arXiv:2407.14207",
    ),
    Rule(
        name="efla",
        equation="W <- W + k (b (v - W^T k))^T,  b = (1 - exp(-beta |k|^2)) / |k|^2;  y = W^T q",
        terms=Terms(erase="key", solve="flow"),
        objective="the flow dW/dt = k (v - W^T k)^T run for a duration beta",
        biology=f"{_AMPA}; {_THRESHOLD}, followed exactly for the presentation's duration",
        source="arXiv:2512.12602",
    ),
    Rule(
        name="oja",
        equation="W <- W + beta (k - W v) v^T;  y = W^T q",
        terms=Terms(erase="key", transposed=True),
        objective="beta/2 |k - W v|^2",
        biology="growth by coincidence, held back by what all postsynaptic cells together predict"
        " of the input (of one cell: its rate squared)",
        source="Oja 1982, 10.1007/BF00275687; Irie 2022, arXiv:2206.01649",
    ),
    Rule(
        name="rwkv7",
        equation="W <- diag(alpha) W + k (beta v)^T - r (p^T W);  y = W^T q",
        terms=Terms(decay="channel", erase="direction", reads="undecayed"),
        objective="the delta rule's for r = k and p = beta alpha * k, else of no one function",
        biology=f"{_AMPA}; {_TURNOVER} at a rate of each presynaptic cell; the prediction of"
        " afferents p, read before that, is taken off the synapses of afferents r",
        source="Peng 2025, arXiv:2503.14456",
    ),
    Rule(
        name="mesa",
        equation="W <- gamma W + beta k v^T;  H <- gamma H + beta k k^T;"
        "  y = W^T (H + diag(ridge))^-1 q",
        terms=Terms(decay="scalar", readout="ridge"),
        objective="sum_s gamma^(t-s) beta_s/2 |v_s - Phi^T k_s|^2 + tr(Phi^T diag(ridge) Phi)/2,"
        " minimised by the Phi = (H + diag(ridge))^-1 W that y = Phi^T q reads by",
        biology=f"{_AMPA}; {_TURNOVER}; lateral synapses among the key cells learn how they fire"
        " together, and let a cue settle before it is read",
        source="von Oswald 2025, arXiv:2506.05233",
    ),
    Rule(
        name="delta_product",
        equation="W~ = alpha W;  for j = 1..n: W~ <- W~ + k_j (beta_j (v_j - W~^T k_j))^T;"
        "  W <- W~;  y = W^T q",
        terms=Terms(decay="scalar", erase="key", substeps=True),
        objective="beta_j/2 |v_j - W~^T k_j|^2 in turn",
        biology=f"{_AMPA}; several presentations, each corrected, before one recall",
        source="Siems 2025, arXiv:2502.10297",
    ),
    Rule(
        name="bcm",
        equation="W <- W + beta k (v (v - theta))^T,  theta = <v^2>;  y = W^T q",
        terms=Terms(plasticity="bcm"),
        objective="-beta <v (v - theta), W^T k>",
        biology="a postsynaptic cell that the teaching input drives depresses below a threshold and"
        " potentiates above it; the threshold slides with the mean of its squared rate",
        source="Bienenstock, Cooper & Munro 1982, 10.1523/JNEUROSCI.02-01-00032.1;"
        " Intrator & Cooper 1992, 10.1016/S0893-6080(05)80003-6 (recalled)",
    ),
    Rule(
        name="covariance",
        equation="W <- W + beta (k - <k>) (v - <v>)^T;  y = W^T q",
        terms=Terms(plasticity="covariance"),
        objective="-beta <v - <v>, W^T (k - <k>)>",
        biology="growth where both rates exceed their running means or both fall short of them,"
        " depression where one does",
        source="Sejnowski 1977, 10.1007/BF00275079 (recalled)",
    ),
    Rule(
        name="stdp",
        equation="W <- W + beta (k+ v^T - 1.05 k v-^T),  k+ and v- traces of keys before the value"
        " and of values before the key;  y = W^T q",
        terms=Terms(plasticity="pairs"),
        objective="-beta (<v, W^T k+> - 1.05 <v-, W^T k>)",
        biology="each pair of spikes changes the synapse by its order and timing: NMDA receptors"
        " see the key before the value, calcium of the value before the key depresses",
        source="Song, Miller & Abbott 2000, 10.1038/78829",
    ),
    Rule(
        name="triplet_stdp",
        equation="W <- W + beta (k+ (v (A2+ + A3+ v_y))^T - (k (A2- + A3- k_x)) v-^T),"
        "  k+, v-, k_x, v_y traces;  y = W^T q",
        terms=Terms(plasticity="triplets"),
        objective="-beta (<v (A2+ + A3+ v_y), W^T k+> - <v-, W^T (k (A2- + A3- k_x))>)",
        biology="potentiation of a pair of spikes grows with what the cell fired before it",
        source="Pfister & Gerstner 2006, 10.1523/JNEUROSCI.1425-06.2006",
    ),
    Rule(
        name="clopath",
        equation="W <- W + beta (A_LTP k_x integral([u - theta+]+ [u+]+)^T - A_LTD k [u-]+^T),"
        "  u held by v, u+ and u- its filters;  y = W^T q",
        terms=Terms(plasticity="voltage"),
        objective="-beta (A_LTP <integral([u - theta+]+ [u+]+), W^T k_x> - A_LTD <[u-]+, W^T k>)",
        biology="the postsynaptic voltage, filtered, decides: a depolarised cell depresses at a"
        " presynaptic spike, a strongly depolarised one potentiates what fired before",
        source="Clopath 2010, 10.1038/nn.2479",
    ),
    Rule(
        name="tsodyks_markram",
        equation="W <- W + beta k' v^T,  k' = k u x / U;  y = W^T q',  q' = q u x / U",
        terms=Terms(plasticity="release"),
        objective="-beta <v, W^T k'>",
        biology=f"{_AMPA}; presynaptic cells facilitate (u) and run out of vesicles (x) within a"
        " second, so that what they lately fired gates what they write and read",
        source="Markram, Wang & Tsodyks 1998, 10.1073/pnas.95.9.5323;"
        " Mongillo 2008, 10.1126/science.1150769 (both recalled)",
    ),
    Rule(
        name="thresholded_delta",
        equation="W <- W + (G * k) (b (v - W^T k))^T,  G_ij = 1 where c > theta_p or c < -theta_d,"
        " else 0,  c_ij = k_i (v - W^T k)_j,  b_j = (1 - exp(-beta s_j)) / s_j,"
        "  s_j = sum_i G_ij k_i^2;  y = W^T q",
        terms=Terms(plasticity="thresholded"),
        objective="the flow dW_ij/dt = G_ij k_i (v - W^T k)_j run for a duration beta",
        biology=f"{_AMPA}; {_THRESHOLD}; plastic only where calcium, the product of the key and the"
        " error, passes a threshold for growth or one for shrinking as the presentation begins",
        source="the delta rule's flow, arXiv:2512.12602, gated as in Graupner & Brunel 2012,"
        " 10.1073/pnas.1109359109",
    ),
    Rule(
        name="dendritic_error",
        equation="W <- W + k (beta (r(v) - r(a W^T k)))^T,  r a sigmoid of either sign,"
        "  a = g_D / (g_D + g_L);  y = W^T q",
        terms=Terms(plasticity="dendritic"),
        objective="beta (R(a W^T k) / a - <r(v), W^T k>),  R' = r",
        biology="a dendrite predicts its soma's rate from its AMPA synapses; the teaching input"
        " moves the soma, and what the dendrite did not predict is learned",
        source="Urbanczik & Senn 2014, 10.1016/j.neuron.2013.11.030 (recalled), without their"
        " factor r'/r of the dendrite's rate",
    ),
    Rule(
        name="calcium",
        equation="W <- p + (W - p) exp(-beta G_p T_p),  then W <- W exp(-beta G_d T_d): T_p seconds"
        " of calcium above theta_p, T_d between theta_d and theta_p;  y = W^T q",
        terms=Terms(plasticity="calcium"),
        objective="beta (G_p T_p (W - p)^2 + G_d T_d W^2) / 2, followed exactly",
        biology="calcium of the key's NMDA receptors and of the value's back-propagating spike"
        " depresses above one threshold and potentiates above a higher one",
        source="Graupner & Brunel 2012, 10.1073/pnas.1109359109",
    ),
    Rule(
        name="shouval",
        equation="W <- Omega(c) + (W - Omega(c)) exp(-beta T / tau(c)),  c_ij calcium of key i at"
        " the voltage that value j holds;  y = W^T q",
        terms=Terms(plasticity="calcium_control"),
        objective="beta T (W - Omega(c))^2 / (2 tau(c)), followed exactly",
        biology="calcium through NMDA receptors decides where a weight goes and how fast: no change"
        " at rest, depression at moderate calcium, potentiation at high calcium",
        source="Shouval, Bear & Cooper 2002, 10.1073/pnas.152343099 (recalled)",
    ),
)

RULES = Table({rule.name: rule for rule in _TABLE}, kind="rule", name="fwbio.RULES")


def resolve(rule: Rule | str) -> Rule:
    """The rule of that name, or the rule itself.

    Raises:
        FwbioError: no rule has that name, or the argument is neither a name nor a rule.
    """
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, str):
        raise FwbioError(
            f"a rule is a name or a fwbio.Rule, not {type(rule).__name__}",
            where="rule",
            mend="`fwbio rules` lists the names",
        )
    return RULES.row(rule, where="rule")
