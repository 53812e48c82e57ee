"""The model of Schlag, Irie & Schmidhuber 2021, section 6.1: one memory of one-hot values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot

from fwbio.errors import FwbioError
from fwbio.kernels import scan
from fwbio.models.networks import features
from fwbio.models.networks.checks import Checks
from fwbio.rules import RULES

SMALLEST_NORMALISER = 1e-6
# the normaliser with which each rule was published
NORMALISERS: Mapping[str, str] = MappingProxyType({"hebb": "attention", "delta": "sum"})


@dataclass(frozen=True, kw_only=True)
class KeyValueModelConfig:
    """What a key-value model is made of.

    Args:
        keys: how many keys there are.
        values: how many values there are.
        d_key: channels of keys and queries before the feature map.
        embedding: channels of a key's embedding; 1.1 times keys and values together unless given,
            as in the authors' code.
        rule: "hebb", the sum of writes, or "delta".
        feature: the map of keys and queries, of `fwbio.models.networks.features.FEATURES`; "elu"
            makes the paper's "linear", "dpfp" its DPFP-nu.
        nu: shifts of "dpfp".
        normaliser: "attention", y = W^T phi(q) / z^T phi(q) with z the summed phi(k), of "hebb"
            unless given; "sum", phi divided by the sum of its channels' magnitudes before it
            writes or reads, of "delta" unless given; or "none".

    Raises:
        FwbioError: a name or number out of its range, or options that exclude one another.
    """

    keys: int
    values: int
    d_key: int = 64
    embedding: int | None = None
    rule: str = "hebb"
    feature: str = "dpfp"
    nu: int = 1
    normaliser: str | None = None

    def __post_init__(self) -> None:
        checks = Checks("KeyValueModelConfig")
        checks.choice("rule", self.rule, NORMALISERS)
        for name in ("keys", "values", "d_key"):
            checks.whole(name, getattr(self, name))
        if self.embedding is None:
            object.__setattr__(self, "embedding", int(1.1 * (self.keys + self.values)))
        if self.normaliser is None:
            object.__setattr__(self, "normaliser", NORMALISERS[self.rule])
        checks.whole("embedding", self.embedding)
        checks.choice("normaliser", self.normaliser, ("attention", "sum", "none"))
        features.width(self.feature, self.d_key, self.nu)
        if self.normaliser == "attention":
            checks.that(
                self.rule == "hebb",
                f"the attention's normaliser divides a sum of writes, not those of {self.rule!r}",
                "give normaliser='sum', or rule='hebb'",
            )
            checks.that(
                features.FEATURES[self.feature].nonnegative,
                f"a normaliser of the signed features {self.feature!r} may vanish",
                "give feature='elu' or 'dpfp', or normaliser='none'",
            )


class KeyValueModel(nn.Module):
    """A memory that is shown pairs of a key and a value, and then asked for the values of keys.

        k = phi(K [e(key); v] + a),  q = phi(Q e(key) + b),  v one-hot,  e an embedding
        hebb:  W <- W + k v^T, z <- z + k;  y = W^T q / z^T q
        delta: W <- W + k (beta (v - W^T k))^T,  beta = sigmoid(B [e(key); v] + c);  y = W^T q

    with k and q divided by their sums in the delta rule. Values and read-outs are not learned: the
    loss |v - y|^2 / 2 is what the memory itself leaves. Whatever the parameters, S unique keys in
    random order leave (1 - d / S) / 2 of it or more, d the width of phi.

    Args:
        config: what it is made of.

    Source: Schlag 2021, arXiv:2102.11174 section 6.1, and the authors' code, which also starts
    embeddings normal and K and Q uniform in +-1 / sqrt(d_key).
    """

    def __init__(self, config: KeyValueModelConfig) -> None:
        super().__init__()
        self.config = config
        self.rule = RULES[config.rule]
        assert config.embedding is not None
        self.embedding = nn.Embedding(config.keys, config.embedding)
        self.key = nn.Linear(config.embedding + config.values, config.d_key)
        self.query = nn.Linear(config.embedding, config.d_key)
        for projection in (self.key, self.query):
            nn.init.uniform_(projection.weight, -(config.d_key**-0.5), config.d_key**-0.5)
        self.strength = (
            nn.Linear(config.embedding + config.values, 1) if self.rule.needs("beta") else None
        )

    def streams(self, tokens: Tensor, contents: Tensor) -> dict[str, Tensor]:
        """The keyword arguments of `fwbio.kernels.scan` that pairs and queries give.

        Args:
            tokens: the key of each step [B, T], whole numbers.
            contents: the value bound to it [B, T], or -1 at queries.

        Returns:
            q and k [B, T, 1, d], v [B, T, 1, values], one more where the attention's normaliser
            is summed, and the delta rule's beta [B, T, 1]; what writes is 0 at queries, and
            what reads at writes.

        Raises:
            FwbioError: keys or values that there are not, or shapes that differ.
        """
        self._require_fitting(tokens, contents)
        writes = (contents >= 0)[..., None, None]
        found = self._written(tokens, contents.clamp_min(0))
        written = {
            name: x * (writes if x.ndim == 4 else writes[..., 0]) for name, x in found.items()
        }
        return {"q": self._queries(tokens) * ~writes, **written}

    def forward(self, tokens: Tensor, contents: Tensor, run: "Runner | None" = None) -> Tensor:
        """What the memory reads at each step, [B, T, values], 0 at the steps that write.

        Where every sequence writes first and is asked afterwards, the writes alone are scanned,
        and one product reads the last state by all queries.

        Args:
            tokens: the key of each step [B, T], whole numbers.
            contents: the value bound to it [B, T], or -1 at queries.
            run: maps this model and its streams to read-outs as wide as v [B, T, 1, V];
                `fwbio.kernels.scan` unless given.

        Raises:
            FwbioError: keys or values that there are not, or shapes that differ.
        """
        self._require_fitting(tokens, contents)
        steps = _first_writes(contents) if run is None else None
        if steps is not None:
            return self._read_at_the_end(tokens, contents, steps)
        streams: dict[str, Any] = self.streams(tokens, contents)
        y = scan(self.rule, **streams)[0] if run is None else run(self, streams)
        return self._normalised(y[:, :, 0])

    def _read_at_the_end(self, tokens: Tensor, contents: Tensor, writes: int) -> Tensor:
        written: dict[str, Any] = self._written(tokens[:, :writes], contents[:, :writes])
        q = self._queries(tokens[:, writes:])[:, :, 0]
        if self.config.rule == "hebb":
            # scan's sum would read after every write as well
            state = written["k"][:, :, 0].transpose(1, 2) @ written["v"][:, :, 0]
        else:
            state = scan(self.rule, torch.zeros_like(written["k"]), **written)[1][:, 0]
        y = self._normalised(q @ state.to(q.dtype))
        return torch.cat([y.new_zeros(len(y), writes, y.shape[-1]), y], 1)

    def _written(self, tokens: Tensor, contents: Tensor) -> dict[str, Tensor]:
        """What pairs write: k, v and the delta rule's beta."""
        e = self.embedding(tokens)
        found = {"k": self._features(_of_pair(self.key, e, contents))}
        v = one_hot(contents, self.config.values).to(found["k"].dtype)
        if self.config.normaliser == "attention":
            v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        found["v"] = v[:, :, None]
        if self.strength is not None:
            found["beta"] = torch.sigmoid(_of_pair(self.strength, e, contents))
        return found

    def _queries(self, tokens: Tensor) -> Tensor:
        return self._features(self.query(self.embedding(tokens)))

    def _features(self, x: Tensor) -> Tensor:
        phi = features.feature_map(self.config.feature, x, nu=self.config.nu)
        how = "l1" if self.config.normaliser == "sum" else "none"
        return features.normalised(phi, how)[:, :, None]

    def _normalised(self, y: Tensor) -> Tensor:
        if self.config.normaliser != "attention":
            return y
        return y[..., :-1] / (y[..., -1:] + SMALLEST_NORMALISER)

    def _require_fitting(self, tokens: Tensor, contents: Tensor) -> None:
        if tokens.ndim != 2 or tokens.shape != contents.shape:
            raise FwbioError(
                f"tokens of shape {tuple(tokens.shape)}, contents of {tuple(contents.shape)}",
                where="KeyValueModel",
                mend="give both as [batch, time]",
            )
        for name, x, low, size in (
            ("tokens", tokens, 0, self.config.keys),
            ("contents", contents, -1, self.config.values),
        ):
            if x.numel() and not (low <= int(x.min()) and int(x.max()) < size):
                raise FwbioError(
                    f"{name} from {int(x.min())} to {int(x.max())}, where there are {size}",
                    where="KeyValueModel",
                    mend=f"give whole numbers from {low} to {size - 1}",
                )


Runner = Callable[[KeyValueModel, dict[str, Tensor]], Tensor]


def _of_pair(layer: nn.Linear, embedded: Tensor, contents: Tensor) -> Tensor:
    """The layer of [embedded; one-hot value], whose second part is a row of the weights."""
    of_key, of_value = layer.weight.split(
        [embedded.shape[-1], layer.in_features - embedded.shape[-1]], 1
    )
    return linear(embedded, of_key, layer.bias) + of_value.t()[contents]


def _first_writes(contents: Tensor) -> int | None:
    """How many steps write, if in every sequence these come first and are as many; else None."""
    writes = contents >= 0
    count = int(writes.sum(1).max()) if writes.numel() else 0
    if bool(writes[:, :count].all()) and not bool(writes[:, count:].any()):
        return count
    return None
