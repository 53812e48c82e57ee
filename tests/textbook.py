"""Every rule written out from its source, one sequence and one head: no normal form, no batching.

Each entry takes keys, values and queries by row and the rule's other streams, starts from weights
W (pre, post), and yields (read-out, weights) after every step. Letters follow the sources: S, where
it appears, is their (post, pre) state, the transpose of W.
"""

import numpy as np
import scipy.linalg


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
    )
}
