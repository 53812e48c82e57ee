"""A rule of one's own: a row of terms, run, trained and identified, with no code to write.

`python analyses/examples/own_rule.py --steps 40`

The rule forgets channel by channel and then follows its error exactly for a while, which no rule of
the table does in one. A `fwbio.Rule` only says which terms it has; the kernels run them, and
identification takes it for a candidate beside the table's.
"""

import click
import torch
import xarray as xr

from fwbio import Rule, Terms, kernels
from fwbio.analyses.identification import identify

RULE = Rule(
    name="fading_efla",
    equation="W~ = diag(alpha) W;  W <- W~ + k (b (v - W~^T k))^T,"
    "  b = (1 - exp(-beta |k|^2)) / |k|^2;  y = W^T q",
    terms=Terms(decay="channel", erase="key", solve="flow"),
    objective="the flow dW/dt = k (v - W^T k)^T run for a duration beta, after decay",
    biology="receptors turn over at a rate of each presynaptic cell; then errors are followed",
    source="this example",
)


@click.command()
@click.option("--steps", default=32, show_default=True, help="Of the sequence.")
@click.option("--updates", default=60, show_default=True, help="Of gradient descent.")
@click.option("--seed", default=0, show_default=True)
def main(steps: int, updates: int, seed: int) -> None:
    """Run the rule, hold it against its equation, and learn its decays from what it read."""
    torch.manual_seed(seed)
    q, k, v = (torch.randn(1, steps, 1, size, dtype=torch.float64) for size in (6, 6, 4))
    beta = torch.rand(1, steps, 1, dtype=torch.float64)
    decay = -0.3 * torch.rand(6, dtype=torch.float64)
    gates = {"beta": beta, "log_decay": decay.expand(1, steps, 1, 6)}
    y, _, weights = kernels.scan(RULE, q, k, v, return_states=1, **gates)
    error = (y - by_hand(q, k, v, beta, decay)).abs().max().item()
    click.echo(f"{RULE.name}: {RULE.equation}\nfurthest from the equation: {error:.1e}")

    seen = xr.Dataset(
        {
            "key": (("step", "pre"), k[0, :, 0]),
            "value": (("step", "post"), v[0, :, 0]),
            "beta": ("step", beta[0, :, 0]),
            "weights": (("step", "pre", "post"), weights[0, :, 0]),
        }
    )
    click.echo(identify(seen, rules=["hebb", "delta", "efla", "kda", RULE]).sentence)

    learned = torch.full((6,), -2.0, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.Adam([learned], lr=0.1)
    for update in range(updates):
        log_decay = -torch.nn.functional.softplus(learned).expand(1, steps, 1, 6)
        loss = ((kernels.scan(RULE, q, k, v, beta=beta, log_decay=log_decay)[0] - y) ** 2).mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
        if update in {0, updates - 1}:
            click.echo(f"loss after {update} updates: {loss.item():.2e}")


def by_hand(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, beta: torch.Tensor, decay: torch.Tensor
) -> torch.Tensor:
    """The equation, written out."""
    weights, read = torch.zeros(6, 4, dtype=q.dtype), []
    for t in range(q.shape[1]):
        key, weights = k[0, t, 0], decay.exp()[:, None] * weights
        b = -torch.expm1(-beta[0, t, 0] * key @ key) / (key @ key)
        weights = weights + torch.outer(key, b * (v[0, t, 0] - weights.T @ key))
        read.append(weights.T @ q[0, t, 0])
    return torch.stack(read)[None, :, None]


if __name__ == "__main__":
    main()
