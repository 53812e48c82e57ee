"""Every rule written out from its source, one sequence and one head: no normal form, no batching.

Each entry takes keys, values and queries by row and the rule's other streams, starts from weights
W (pre, post), and yields (read-out, weights) after every step. Letters follow the sources: S, where
it appears, is their (post, pre) state, the transpose of W.
"""

import numpy as np
import scipy.linalg

from fwbio import traces
from fwbio.data import constants


def hebb(W, key, value, query, beta):
    """Sum of outer products: W = sum_t beta_t k_t v_t^T."""
    for k, v, q, b in zip(key, value, query, beta, strict=True):
        W = W + b * np.outer(k, v)
        yield q @ W, W


def linear_attention(W, key, value, query, beta):
    """Attention with the similarity phi(q) . phi(k) in place of exp(q . k)."""

    def phi(x):
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))

    start = W
    for t, q in enumerate(query):
        past = slice(0, t + 1)
        similarity = np.array([phi(q) @ phi(k) for k in key[past]]) * beta[past]
        read = similarity @ value[past] + phi(q) @ start
        W = W + beta[t] * np.outer(phi(key[t]), value[t])
        yield read / similarity.sum(), W


def retnet(W, key, value, query, beta, log_decay):
    """Retention in its parallel form: (Q K^T * D) V, D_nm the decay from m to n."""
    start, T = W, len(key)
    D = np.array([[np.prod(np.exp(log_decay[m + 1 : n + 1])) for m in range(T)] for n in range(T)])
    since_start = np.cumprod(np.exp(log_decay))
    read = (query @ key.T * np.tril(D)) @ (beta[:, None] * value)
    for t in range(T):
        W = since_start[t] * start
        for m in range(t + 1):
            W = W + D[t, m] * beta[m] * np.outer(key[m], value[m])
        yield read[t] + since_start[t] * query[t] @ start, W


def mamba2(W, key, value, query, beta, log_decay):
    """The scalar-identity state space: h_t = a_t h_{t-1} + B_t (dt_t x_t)^T, y_t = C_t h_t."""
    h = W.T
    for B, x, C, dt, log_a in zip(key, value, query, beta, log_decay, strict=True):
        h = np.exp(log_a) * h + np.outer(dt * x, B)
        yield h @ C, h.T


def gla(W, key, value, query, beta, log_decay):
    """Gated linear attention: S_t = Diag(alpha_t) S_{t-1} + k_t v_t^T, o_t = S_t^T q_t."""
    S = W
    for t in range(len(key)):
        S = np.diag(np.exp(log_decay[t])) @ S + beta[t] * key[t][:, None] @ value[t][None, :]
        yield S.T @ query[t], S


def delta(W, key, value, query, beta):
    """Retrieve the old value, blend the new one in, exchange the two."""
    for k, v, q, b in zip(key, value, query, beta, strict=True):
        v_old = k @ W
        v_new = b * v + (1 - b) * v_old
        W = W - np.outer(k, v_old) + np.outer(k, v_new)
        yield q @ W, W


def gated_delta(W, key, value, query, beta, log_decay):
    """S_t = S_{t-1} (alpha_t (I - beta_t k_t k_t^T)) + beta_t v_t k_t^T."""
    S, eye = W.T, np.eye(len(W))
    for k, v, q, b, log_a in zip(key, value, query, beta, log_decay, strict=True):
        S = S @ (np.exp(log_a) * (eye - b * np.outer(k, k))) + b * np.outer(v, k)
        yield S @ q, S.T


def kda(W, key, value, query, beta, log_decay):
    """S_t = (I - beta_t k_t k_t^T) Diag(alpha_t) S_{t-1} + beta_t k_t v_t^T."""
    S, eye = W, np.eye(len(W))
    for k, v, q, b, log_a in zip(key, value, query, beta, log_decay, strict=True):
        S = (eye - b * np.outer(k, k)) @ np.diag(np.exp(log_a)) @ S + b * np.outer(k, v)
        yield S.T @ q, S


def gated_delta_2(W, key, value, query, beta, log_decay, erase):
    """S_t = (I - k_t (b_t * k_t)^T) Diag(alpha_t) S_{t-1} + k_t (w_t * v_t)^T."""
    S, eye = W, np.eye(len(W))
    for t in range(len(key)):
        erased = eye - np.outer(key[t], erase[t] * key[t])
        S = erased @ np.diag(np.exp(log_decay[t])) @ S + np.outer(key[t], beta[t] * value[t])
        yield S.T @ query[t], S


def comba(W, key, value, query, beta, log_decay, erase_key):
    """S_t = S_{t-1} alpha_t (I - beta_t p_t k_t^T) + beta_t v_t k_t^T: closed-loop control."""
    S, eye = W.T, np.eye(len(W))
    for t in range(len(key)):
        feedback = eye - beta[t] * np.outer(erase_key[t], key[t])
        S = np.exp(log_decay[t]) * S @ feedback + beta[t] * np.outer(value[t], key[t])
        yield S @ query[t], S.T


def longhorn(W, key, value, query, beta):
    """argmin over W' of |W' - W|^2 / 2 + beta |v - W'^T k|^2 / 2: its normal equations, solved."""
    eye = np.eye(len(W))
    for k, v, q, b in zip(key, value, query, beta, strict=True):
        W = np.linalg.solve(eye + b * np.outer(k, k), W + b * np.outer(k, v))
        yield W.T @ q, W


def efla(W, key, value, query, beta):
    """dW/dt = k (v - W^T k)^T for a time beta, by the exponential of the augmented system."""
    pre, post = W.shape
    for k, v, q, b in zip(key, value, query, beta, strict=True):
        generator = np.zeros((pre + post, pre + post))
        generator[:pre, :pre] = -np.outer(k, k)
        generator[:pre, pre:] = np.outer(k, v)
        W = (scipy.linalg.expm(b * generator) @ np.vstack([W, np.eye(post)]))[:pre]
        yield W.T @ q, W


def oja(W, key, value, query, beta):
    """Row i, dw_i = beta y (x_i - y . w_i): growth by coincidence, minus the post rate squared."""
    W = W.copy()
    for x, y, q, b in zip(key, value, query, beta, strict=True):
        for i in range(len(W)):
            W[i] = W[i] + b * y * (x[i] - y @ W[i])
        yield W.T @ q, W.copy()


def delta_product(W, key, value, query, beta, log_decay):
    """H_t = A_t H_{t-1} + B_t with A_t = g_t prod_j (I - beta_j k_j k_j^T), n_h factors a token."""
    eye = np.eye(len(W))
    for t in range(len(key)):
        A, B = np.exp(log_decay[t]) * eye, np.zeros_like(W)
        for k, v, b in zip(key[t], value[t], beta[t], strict=True):
            householder = eye - b * np.outer(k, k)
            A, B = householder @ A, householder @ B + b * np.outer(k, v)
        W = A @ W + B
        yield W.T @ query[t], W


def mlstm(W, key, value, query, log_beta, log_decay):
    """C_t = f_t C_{t-1} + i_t v_t k_t^T, n_t = f_t n_{t-1} + i_t k_t, without a stabiliser."""
    C, n = W.T, np.zeros(len(W))
    for x, v, q, log_i, log_f in zip(key, value, query, log_beta, log_decay, strict=True):
        k = x / np.sqrt(len(x))
        f, i = np.exp(log_f), np.exp(log_i)
        C = f * C + i * np.outer(v, k)
        n = f * n + i * k
        yield C @ q / max(abs(n @ q), 1), C.T


def rwkv7(W, key, value, query, beta, log_decay, erase_key, erase_direction):
    """S_t = S_{t-1} (diag(w_t) + a_t b_t^T) + v_t k_t^T, with a = -erase_key."""
    S = W.T
    for t in range(len(key)):
        a, b = -erase_key[t], erase_direction[t]
        S = S @ (np.diag(np.exp(log_decay[t])) + np.outer(a, b))
        S = S + np.outer(beta[t] * value[t], key[t])
        yield S @ query[t], S.T


def mesa(W, key, value, query, beta, log_decay, ridge):
    """G_t = gamma G + beta v k^T, H_t = gamma H + beta k k^T, o_t = G_t (H_t + Lambda)^-1 q_t."""
    G, H = W.T, np.zeros((len(W), len(W)))
    for k, v, q, b, log_g, r in zip(key, value, query, beta, log_decay, ridge, strict=True):
        G = np.exp(log_g) * G + b * np.outer(v, k)
        H = np.exp(log_g) * H + b * np.outer(k, k)
        yield G @ np.linalg.inv(H + np.diag(r)) @ q, G.T


def times_of(interval):
    """When the keys' volleys fall, s; the values' follow each by LEAD."""
    keys = np.cumsum(np.concatenate([[0.0], interval[1:]]))
    return keys, keys + traces.LEAD


def signed(f, values):
    """f of the ON cells' values less f of the OFF cells'."""
    return f(np.maximum(values, 0)) - f(np.maximum(-values, 0))


def running_mean(x, interval, tau):
    """m_{t-1} of m_t = a_t m_{t-1} + (1 - a_t) x_t from m_0 = x_0, as a sum over earlier steps."""
    a = np.exp(-interval / tau)
    a[0] = 0
    weights = [
        [(1 - a[s]) * np.prod(a[s + 1 : t]) if s < t else 0.0 for s in range(len(x))]
        for t in range(len(x))
    ]
    return np.array(weights) @ x


def bcm(W, key, value, query, beta, interval):
    """dw = beta x y (y - theta), theta the running mean of y^2 (Intrator & Cooper 1992)."""
    tau = constants("plasticity")["bcm_tau_theta"]
    post = signed(lambda y: y * (y - running_mean(y**2, interval, tau)), value)
    for k, change, q, b in zip(key, post, query, beta, strict=True):
        W = W + b * np.outer(k, change)
        yield q @ W, W


def covariance(W, key, value, query, beta, interval):
    """dw = beta (x - <x>) (y - <y>)."""
    tau = constants("plasticity")["covariance_tau_mean"]
    x, y = (stream - running_mean(stream, interval, tau) for stream in (key, value))
    for t, q in enumerate(query):
        W = W + beta[t] * np.outer(x[t], y[t])
        yield q @ W, W


def stdp(W, key, value, query, beta, interval):
    """Every pair by its window: exp(-dt / 20 ms) for pre first, else -1.05 exp(dt / 20 ms)."""
    pre, post = times_of(interval)
    for t, q in enumerate(query):
        for s in range(t + 1):
            W = W + beta[t] * np.exp(-(post[t] - pre[s]) / 20e-3) * np.outer(key[s], value[t])
        for s in range(t):
            depressed = 1.05 * np.exp(-(pre[t] - post[s]) / 20e-3)
            W = W - beta[t] * depressed * np.outer(key[t], value[s])
        yield q @ W, W


def triplet_stdp(W, key, value, query, beta, interval):
    """Every pair and every triplet of spikes (Pfister & Gerstner 2006, eq. 3 and 4)."""
    pre, post = times_of(interval)
    for t, q in enumerate(query):
        earlier = range(t)
        k_x = sum((key[s] * np.exp(-(pre[t] - pre[s]) / 101e-3) for s in earlier), 0 * key[t])
        o_1 = sum((value[s] * np.exp(-(pre[t] - post[s]) / 33.7e-3) for s in earlier), 0 * value[t])
        W = W - beta[t] * np.outer(key[t] * (7e-3 + 2.3e-4 * k_x), o_1)
        r_1 = sum(key[s] * np.exp(-(post[t] - pre[s]) / 16.8e-3) for s in range(t + 1))
        for sign in (1, -1):
            v = np.maximum(sign * value, 0)
            o_2 = sum((v[s] * np.exp(-(post[t] - post[s]) / 125e-3) for s in earlier), 0 * v[t])
            W = W + sign * beta[t] * np.outer(r_1, v[t] * (5e-10 + 6.2e-3 * o_2))
        yield q @ W, W


def clopath(W, key, value, query, beta, interval):
    """-A_LTD x [u- - theta-]+ + A_LTP xbar [u - theta+]+ [u+ - theta-]+, by quadrature in volts."""
    pre, post = times_of(interval)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    held, spread = (nodes + 1) / 2 * traces.HOLD, weights / 2 * traces.HOLD

    def filtered(volts, at, steps, tau):
        """What is left at a time of square depolarisations of the steps before it."""
        rise = 1 - np.exp(-traces.HOLD / tau)
        ends = post[:steps] + traces.HOLD
        return rise * np.exp(-(at - ends) / tau) @ volts[:steps]

    for t, q in enumerate(query):
        for sign in (1, -1):
            volts = traces.SWING * np.maximum(sign * value, 0)
            W = W - sign * beta[t] * 0.14 * np.outer(key[t], filtered(volts, pre[t], t, 10e-3))
            for s, w in zip(held, spread, strict=True):
                x = sum(key[r] * np.exp(-(post[t] + s - pre[r]) / 15e-3) for r in range(t + 1))
                rising = volts[t] * (1 - np.exp(-s / 7e-3))
                u = filtered(volts, post[t], t, 7e-3) * np.exp(-s / 7e-3) + rising
                above = np.maximum(volts[t] - (70.6e-3 - 45.3e-3), 0)
                W = W + sign * beta[t] * 80.0 * w * np.outer(x / 15e-3, above * u)
        yield q @ W, W


def tsodyks_markram(W, key, value, query, beta, interval):
    """u, x in the running form: u is the share that the next spike releases, of what x is left."""
    U, tau_f, tau_d = 0.2, 1.5, 0.2
    u, x = np.full(len(W), U), np.ones(len(W))
    for t in range(len(key)):
        u = U + (u - U) * np.exp(-interval[t] / tau_f)
        x = 1 - (1 - x) * np.exp(-interval[t] / tau_d)
        through = []
        for fired in (key[t], query[t]):
            share = np.minimum(np.abs(fired), 1)
            through.append(fired * u * x / U)
            x = x - share * u * x
            u = u + share * U * (1 - u)
        W = W + beta[t] * np.outer(through[0], value[t])
        yield W.T @ through[1], W


def thresholded_delta(W, key, value, query, beta, theta_p, theta_d):
    """Each column's open synapses by the exponential of their own flow."""
    pre, post = W.shape
    for t in range(len(key)):
        k, W = key[t], W.copy()
        calcium = np.outer(k, value[t] - W.T @ k)
        for j in range(post):
            opened = (calcium[:, j] > theta_p[t]) | (calcium[:, j] < -theta_d[t])
            generator = np.zeros((pre + 1, pre + 1))
            generator[:pre, :pre] = -np.outer(opened * k, opened * k)
            closed = (~opened * k) @ W[:, j]
            generator[:pre, pre] = opened * k * (value[t, j] - closed)
            W[:, j] = (scipy.linalg.expm(beta[t] * generator) @ np.append(W[:, j], 1))[:pre]
        yield W.T @ query[t], W


def dendritic_error(W, key, value, query, beta):
    """dw = beta (r(U) - r(V*)) psp, V* = g_D / (g_D + g_L) V_w (Urbanczik & Senn 2014, no r'/r)."""
    fit = constants("plasticity")

    def rate(u):
        drive = fit["dendritic_phi_slope"] * (fit["dendritic_phi_half"] - u)
        return 1 / (1 + fit["dendritic_phi_offset"] * np.exp(drive))

    share = fit["dendritic_g_dendrite"] / (fit["dendritic_g_dendrite"] + fit["dendritic_g_leak"])
    for k, v, q, b in zip(key, value, query, beta, strict=True):
        error = signed(rate, v) - signed(rate, share * (k @ W))
        W = W + b * np.outer(k, error)
        yield q @ W, W


def calcium(W, key, value, query, beta, interval):
    """rho' tau = -gamma_d rho H(c - 1) + gamma_p (1 - rho) H(c - 1.3), from one volley to the next.

    Calcium is summed over all volleys before; its decay is followed to each threshold in turn.
    """
    tau_ca, c_pre, c_post, delay = 22.6936e-3, 0.5617539, 1.23964, 4.6098e-3
    down, up, tau = 331.909, 725.085, 346.3615
    key, value = np.maximum(key, 0), np.maximum(value, 0)
    pre, post = times_of(interval)
    pre = pre + delay

    def calcium_at(now, keys, values, i, j):
        left = [c_pre * key[s, i] * np.exp(-(now - pre[s]) / tau_ca) for s in range(keys)]
        left += [c_post * value[s, j] * np.exp(-(now - post[s]) / tau_ca) for s in range(values)]
        return sum(left)

    def drifted(rho, level, longest, b):
        reached = [min(max(tau_ca * np.log(max(level, 1e-9) / th), 0), longest) for th in (1.3, 1)]
        both, depressed = b * reached[0] / tau, b * (reached[1] - reached[0]) / tau
        rho = up / (up + down) * -np.expm1(-(up + down) * both) + rho * np.exp(-(up + down) * both)
        return rho * np.exp(-down * depressed)

    for t, q in enumerate(query):
        W = W.copy()
        for i, j in np.ndindex(W.shape):
            level = calcium_at(pre[t], t + 1, t, i, j)
            W[i, j] = drifted(W[i, j], level, post[t] - pre[t], beta[t])
            level = calcium_at(post[t], t + 1, t + 1, i, j)
            rest = interval[t] - (post[t] - pre[t])
            W[i, j] = drifted(W[i, j], level, rest, beta[t])
        yield q @ W, W


def shouval(W, key, value, query, beta, interval):
    """dW/dt = (Omega(Ca) - W) / tau(Ca) at the calcium that each pair of key and value holds."""
    fit = constants("plasticity")

    def sigmoid(x):
        return (1 + np.tanh(40 * x)) / 2

    for t, q in enumerate(query):
        W = W.copy()
        for i, j in np.ndindex(W.shape):
            V = fit["shouval_rest"] + 0.1 * max(value[t, j], 0)
            block = 1 / (1 + 1 / 3.57 * np.exp(-62 * V))
            current = fit["shouval_open_fraction"] * max(key[t, i], 0) * block * max(0.13 - V, 0)
            Ca = fit["shouval_g_nmda"] * fit["shouval_calcium_decay"] * current
            omega = 0.25 + sigmoid(Ca - 0.55) - 0.25 * sigmoid(Ca - 0.35)
            rate = 1 / (0.1 / (1e-5 + Ca**3) + 1)
            W[i, j] += (omega - W[i, j]) * -np.expm1(-rate * beta[t] * interval[t])
        yield q @ W, W


TEXTBOOK = {
    rule.__name__: rule
    for rule in (
        hebb,
        linear_attention,
        retnet,
        mamba2,
        gla,
        delta,
        gated_delta,
        kda,
        gated_delta_2,
        comba,
        longhorn,
        efla,
        oja,
        mlstm,
        rwkv7,
        mesa,
        delta_product,
        bcm,
        covariance,
        stdp,
        triplet_stdp,
        clopath,
        tsodyks_markram,
        thresholded_delta,
        dendritic_error,
        calcium,
        shouval,
    )
}
