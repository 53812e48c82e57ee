"""Sequence tasks: what solves each exactly, how each is distributed, and what sizes it refuses."""

import json
from itertools import permutations, product
from math import comb, factorial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import FwbioError
from fwbio.corpus import read_corpus
from fwbio.models.slow_net import TrainingConfig
from fwbio.state_tasks import symmetric_group
from fwbio.tasks import PAIR_TASKS, SEQUENCE_TASKS, TASKS

SOURCES = str(Path(json.__file__).parent)
SMALL = {
    "associative_retrieval": {"pairs": 3},
    "key_value": {"keys": 6, "repeated": True},
    "mqar": {"vocabulary": 20, "length": 24, "pairs": 3},
    "parity": {"length": 12},
    "modular_sum": {"length": 12, "modulus": 4},
    "permutations": {"length": 12, "elements": 4},
    "copying": {"symbols": 5, "length": 4, "delay": 3},
    "regression": {"inputs": 3, "examples": 6, "noise": 0.5},
    "bytes": {"path": SOURCES, "pattern": "*.py", "length": 16},
}
tasks = pytest.mark.parametrize("task", SEQUENCE_TASKS)


def episode(task, seed=0, trials=5, **sizes):
    return TASKS[task](seed=seed, trials=trials, **SMALL[task] | sizes)


def assert_law(outcomes, probabilities):
    """Assert that independent outcomes 0, 1, ... have these probabilities (chi-squared)."""
    probabilities = np.asarray(probabilities, float)
    counts = np.bincount(np.ravel(outcomes), minlength=probabilities.size)
    assert counts.size == probabilities.size
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = counts.sum() * probabilities[possible] / probabilities.sum()
    assert expected.min() >= 5, "too few outcomes for the chi-squared law"
    assert stats.chisquare(counts[possible], expected).pvalue >= TOLERANCES["chance"].value


def test_every_task_is_tested_and_of_one_kind():
    assert SMALL.keys() == SEQUENCE_TASKS.keys()
    assert TASKS.keys() == PAIR_TASKS.keys() | SEQUENCE_TASKS.keys()
    assert not PAIR_TASKS.keys() & SEQUENCE_TASKS.keys()


# What every one of them is


@tasks
def test_inputs_targets_and_attributes_belong_together(task):
    made = episode(task)
    attrs = made.attrs
    assert ("tokens" in made) == (attrs["vocabulary"] > 0) == (attrs["features"] == 0)
    assert ("features" in made) == (attrs["features"] > 0)
    if "tokens" in made:
        assert made.tokens.dims == ("trial", "step")
        assert made.tokens.dtype == np.int64
        assert 0 <= made.tokens.min() <= made.tokens.max() < attrs["vocabulary"]
    else:
        assert made.features.dims == ("trial", "step", "feature")
        assert made.features.dtype == np.float64
        assert made.sizes["feature"] == attrs["features"]
    assert made.scored.dims == ("trial", "step")
    assert made.scored.dtype == bool
    assert made.scored.any("step").all()
    assert not made.target.where(~made.scored, 0).any()
    if made.target.ndim == 2:
        assert made.target.dtype == np.int64
        assert 0 <= made.target.min() <= made.target.max() < attrs["classes"]
    else:
        assert made.target.dtype == np.float64
        assert made.sizes["output"] == attrs["classes"]
    assert attrs["loss"] in {"cross_entropy", "squared"}
    assert attrs["task"] == task
    assert attrs["config"] == json.loads(json.dumps(attrs["config"]))
    assert attrs["config"].items() >= SMALL[task].items()


@tasks
def test_equal_seeds_repeat_and_others_differ(task, seed):
    first, again, other = (episode(task, seed=number) for number in (seed, seed, seed + 1))
    assert first.identical(again)
    assert not first.equals(other)


@tasks
def test_trials_differ(task, seed):
    made = episode(task, seed=seed, trials=2)
    assert not made.isel(trial=0).equals(made.isel(trial=1))


@pytest.mark.parametrize("task", sorted(SEQUENCE_TASKS.keys() - {"bytes"}))
def test_every_default_makes_an_episode(task):
    made = TASKS[task]()
    assert made.sizes["trial"] == made.attrs["config"]["trials"] == 8


# Associative retrieval


def retrieval(seed, pairs, trials):
    """Letters, digits, the letter asked for and its digit."""
    made = TASKS["associative_retrieval"](seed=seed, trials=trials, pairs=pairs)
    tokens = made.tokens.values
    assert tokens.shape == (trials, 2 * pairs + 3)
    assert (tokens[:, 2 * pairs : -1] == 36).all()
    assert np.array_equal(made.scored.any("trial"), np.arange(2 * pairs + 3) == 2 * pairs + 2)
    shown = tokens[:, : 2 * pairs].reshape(trials, pairs, 2)
    return shown[..., 0], shown[..., 1] - 26, tokens[:, -1], made.target.values[:, -1]


@pytest.mark.parametrize("pairs", [1, 4, 26])
def test_a_lookup_retrieves_every_digit(pairs, seed):
    letters, digits, asked, target = retrieval(seed, pairs, 200)
    assert ((letters >= 0) & (letters < 26)).all()
    assert ((digits >= 0) & (digits < 10)).all()
    assert all(len(set(row)) == pairs for row in letters.tolist())
    books = [dict(zip(*row, strict=True)) for row in zip(letters, digits, strict=True)]
    assert [book[letter] for book, letter in zip(books, asked, strict=True)] == target.tolist()


def test_letters_digits_and_questions_are_uniform(seed):
    letters, digits, asked, _ = retrieval(seed, 4, 20_000)
    for place in range(4):
        assert_law(letters[:, place], np.ones(26))
        assert_law(digits[:, place], np.ones(10))
    assert_law((letters == asked[:, None]).argmax(1), np.ones(4))
    earlier, later = np.array(list(permutations(range(26), 2))).T
    numbered = np.full((26, 26), -1)
    numbered[earlier, later] = np.arange(earlier.size)
    assert_law(numbered[letters[:, 0], letters[:, 1]], np.ones(26 * 25))


def test_the_most_frequent_digit_is_right_as_often_as_published(seed):
    """E[largest count] / 4 over the 10^4 strings of four digits: Ba 2016 has 61.65 % errors."""
    strings = np.array(list(product(range(10), repeat=4)))
    largest = (strings[:, :, None] == strings[:, None]).sum(1).max(1)
    chance = largest.mean() / 4
    assert chance == 0.3835
    _, digits, _, target = retrieval(seed, 4, 20_000)
    counts = (digits[:, :, None] == digits[:, None]).sum(1)
    guess = np.take_along_axis(digits, counts.argmax(1)[:, None], 1)[:, 0]
    right = int((guess == target).sum())
    assert stats.binomtest(right, 20_000, chance).pvalue >= TOLERANCES["chance"].value


# Keys and values


@pytest.mark.parametrize("repeated", [False, True])
def test_the_last_value_of_a_key_counts(repeated, seed):
    keys, shown = 7, 14 if repeated else 7
    made = TASKS["key_value"](seed=seed, trials=50, keys=keys, repeated=repeated)
    assert made.sizes["step"] == shown + keys
    assert (made.contents.values[:, shown:] == -1).all()
    assert not made.scored.values[:, :shown].any()
    for trial in range(50):
        one = made.isel(trial=trial)
        tokens, contents = one.tokens.values, one.contents.values
        last = dict(zip(tokens[:shown].tolist(), contents[:shown].tolist(), strict=True))
        asked = tokens[shown:].tolist()
        assert sorted(asked) == list(range(keys))
        assert one.scored.values[shown:].tolist() == [key in last for key in asked]
        assert one.target.values[shown:].tolist() == [last.get(key, 0) for key in asked]


def test_setting_1_binds_every_key_to_a_value_of_its_own(seed):
    """The targets are a one-hot permutation, of which rank d leaves 1/2 (1 - d/S)."""
    made = TASKS["key_value"](seed=seed, trials=3, keys=12)
    assert made.scored.values[:, 12:].all()
    for x in (made.tokens.values[:, :12], made.contents.values[:, :12]):
        assert (np.sort(x, axis=1) == np.arange(12)).all()
    wanted = np.eye(12)[made.target.values[:, 12:]]
    left, sizes, right = np.linalg.svd(wanted)
    for rank in (1, 5, 12):
        best = (left[..., :rank] * sizes[:, None, :rank]) @ right[:, :rank]
        loss = 0.5 * ((wanted - best) ** 2).sum((1, 2)) / 12
        assert_close(1 + loss, np.full(3, 1 + 0.5 * (1 - rank / 12)), "float64")


def test_setting_1_comes_in_every_order(seed):
    made = TASKS["key_value"](seed=seed, trials=6000, keys=3)
    number = {order: i for i, order in enumerate(permutations(range(3)))}
    for x in (made.tokens.values[:, :3], made.contents.values[:, :3], made.tokens.values[:, 3:]):
        assert_law([number[tuple(row)] for row in x.tolist()], np.ones(6))


def test_setting_2_leaves_out_keys_as_coupons(seed):
    """Of S keys, each is missed by 2 S draws with probability (1 - 1/S)^(2 S)."""
    made = TASKS["key_value"](seed=seed, trials=4000, keys=5, repeated=True)
    assert_law(made.tokens.values[:, :10], np.ones(5))
    assert_law(made.contents.values[:, :10], np.ones(5))
    missed = 5 - made.scored.values.sum(1)
    assert_expected(missed, 5 * (1 - 1 / 5) ** 10)


# Multi-query associative recall


@pytest.mark.parametrize("fillers", ["random", "zeros"])
@pytest.mark.parametrize(("vocabulary", "length", "pairs"), [(20, 24, 3), (21, 16, 4), (12, 20, 5)])
def test_a_lookup_answers_every_query(vocabulary, length, pairs, fillers, seed):
    sizes = {"vocabulary": vocabulary, "length": length, "pairs": pairs, "fillers": fillers}
    made = TASKS["mqar"](seed=seed, trials=60, **sizes)
    tokens, scored = made.tokens.values, made.scored.values
    assert tokens.shape == (60, length)
    shown = tokens[:, : 2 * pairs].reshape(60, pairs, 2)
    keys, values = shown[..., 0], shown[..., 1]
    assert ((keys >= 1) & (keys < vocabulary // 2)).all()
    assert ((values >= vocabulary // 2) & (values < vocabulary)).all()
    assert not scored[:, : 2 * pairs].any()
    assert not scored[:, 1::2].any()
    for trial in range(60):
        book = dict(zip(keys[trial].tolist(), values[trial].tolist(), strict=True))
        assert len(set(book.values())) == len(book) == pairs
        asked = tokens[trial, scored[trial]].tolist()
        assert sorted(asked) == sorted(book)
        assert made.target.values[trial, scored[trial]].tolist() == [book[key] for key in asked]
    between = ~scored
    between[:, : 2 * pairs] = False
    if fillers == "zeros":
        assert not tokens[between].any()
    else:
        assert set(tokens[between]) == set(range(vocabulary))


@pytest.mark.parametrize("power", [0.0, 0.01, 0.5, 1.0])
def test_gaps_follow_the_power_law(power, seed):
    """The first key's slot g has P ~ (g + 1)^(a - 1); the second's is drawn from the rest."""
    made = TASKS["mqar"](
        seed=seed, trials=20_000, vocabulary=64, length=24, pairs=2, power=power, fillers="zeros"
    )
    tokens = made.tokens.values
    slots = (tokens[:, None, 4:] == tokens[:, 0:4:2, None]).argmax(-1) // 2
    p = np.arange(1, 11) ** (power - 1.0)
    p /= p.sum()
    assert_law(slots[:, 0], p)
    assert_law(slots[:, 1], p * ((p / (1 - p)).sum() - p / (1 - p)))


def test_keys_values_and_fillers_are_uniform(seed):
    made = TASKS["mqar"](seed=seed, trials=20_000, vocabulary=10, length=8, pairs=2)
    tokens = made.tokens.values
    orders = {pair: i for i, pair in enumerate(permutations(range(1, 5), 2))}
    assert_law([orders[pair] for pair in zip(*tokens[:, 0:4:2].T.tolist(), strict=True)], [1] * 12)
    orders = {pair: i for i, pair in enumerate(permutations(range(5, 10), 2))}
    assert_law([orders[pair] for pair in zip(*tokens[:, 1:4:2].T.tolist(), strict=True)], [1] * 20)
    assert_law(tokens[:, 5::2], np.ones(10))


# States to track


def test_parity_is_the_sign_of_a_product(seed):
    """A key of 1, a value of 0 and a write strength of 2 x: products of 1 - 2 x."""
    made = TASKS["parity"](seed=seed, trials=500, length=40)
    signs = np.cumprod(1 - 2 * made.tokens.values, axis=1)
    assert np.array_equal(1 - 2 * made.target.values, signs)
    assert made.scored.all()
    assert_law(made.tokens, [1, 1])
    assert_law(made.target.values[:, -1], [1, 1])


@pytest.mark.parametrize("modulus", [2, 5, 7])
def test_sums_differ_by_their_numbers(modulus, seed):
    made = TASKS["modular_sum"](seed=seed, trials=200, length=30, modulus=modulus)
    steps = np.diff(made.target.values, axis=1, prepend=0) % modulus
    assert np.array_equal(steps, made.tokens)
    assert made.scored.all()
    assert made.attrs["vocabulary"] == made.attrs["classes"] == modulus
    assert_law(made.tokens, np.ones(modulus))


@pytest.mark.parametrize("elements", [2, 3, 4, 5])
def test_permutations_form_a_group(elements):
    table, swaps = symmetric_group(elements)
    number = np.arange(factorial(elements))
    assert np.array_equal(table[0], number)
    assert np.array_equal(table[:, 0], number)
    for axis in (0, 1):
        assert (np.sort(table, axis=axis) == np.expand_dims(number, 1 - axis)).all()
    g, h, f = np.ix_(number, number, number[::7])
    assert np.array_equal(table[table[g, h], f], table[g, table[h, f]])
    assert np.array_equal(table, table.T) == (elements == 2)
    assert len(set(swaps.tolist())) == 1 + comb(elements, 2)
    assert not table[swaps, swaps].any()
    generated = {0}
    while len(larger := {int(table[g, s]) for g in generated for s in swaps}) > len(generated):
        generated = larger
    assert generated == set(number.tolist())


@pytest.mark.parametrize("moves", ["swaps", "all"])
@pytest.mark.parametrize("elements", [2, 3, 5])
def test_what_permutations_come_to(elements, moves, seed):
    """Each step's move takes what is at place i to place g(i), wherever it has come from."""
    made = TASKS["permutations"](seed=seed, trials=20, length=15, elements=elements, moves=moves)
    group = list(permutations(range(elements)))
    alphabet = [g for g in group if sum(i != at for i, at in enumerate(g)) <= 2]
    alphabet = sorted(alphabet, key=lambda g: [i for i, at in enumerate(g) if i != at])
    alphabet = group if moves == "all" else alphabet
    assert made.attrs["vocabulary"] == len(alphabet)
    assert made.attrs["classes"] == len(group)
    assert made.scored.all()
    for tokens, target in zip(made.tokens.values, made.target.values, strict=True):
        state = tuple(range(elements))
        for token, wanted in zip(tokens, target, strict=True):
            state = tuple(alphabet[token][at] for at in state)
            assert group[wanted] == state


@pytest.mark.parametrize("moves", ["swaps", "all"])
def test_moves_are_uniform_and_mix(moves, seed):
    """A walk that may stand still reaches every permutation alike, sooner than it is long."""
    made = TASKS["permutations"](seed=seed, trials=6000, length=60, moves=moves)
    assert_law(made.tokens.values[:, :4], np.ones(made.attrs["vocabulary"]))
    assert_law(made.target.values[:, -1], np.ones(6))


# Copying


@pytest.mark.parametrize("delay", [1, 20])
def test_symbols_are_recalled_in_order_after_the_delay(delay, seed):
    made = TASKS["copying"](seed=seed, trials=300, symbols=8, length=10, delay=delay)
    tokens = made.tokens.values
    assert tokens.shape == (300, delay + 20)  # T + 20 in Arjovsky's figures
    assert (tokens[:, :10] < 8).all()
    rest = np.full(delay + 10, 8)
    rest[delay - 1] = 9
    assert (tokens[:, 10:] == rest).all()
    assert (made.scored.values == (np.arange(delay + 20) >= delay + 10)).all()
    assert np.array_equal(made.target.values[:, -10:], tokens[:, :10])
    assert_law(tokens[:, :10], np.ones(8))


# Regression in context


@pytest.mark.parametrize("covariates", ["gaussian", "uniform"])
def test_least_squares_on_the_examples_answers_the_query(covariates, seed):
    made = TASKS["regression"](seed=seed, trials=40, inputs=4, examples=9, covariates=covariates)
    x, y = made.features.values[..., :4], made.features.values[..., 4]
    assert made.features.shape == (40, 10, 5)
    assert np.array_equal(made.scored, np.tile(np.arange(10) == 9, (40, 1)))
    assert not y[:, -1].any()
    fits = [np.linalg.lstsq(x[i, :-1], y[i, :-1], rcond=None)[0] for i in range(40)]
    answers = (np.stack(fits) * x[:, -1]).sum(-1)
    assert np.abs(np.stack(fits) - made.weights.values).max() <= TOLERANCES["convergence"].value
    assert np.abs(answers - made.target.values[:, -1, 0]).max() <= TOLERANCES["convergence"].value


@pytest.mark.parametrize(("covariates", "variance"), [("gaussian", 1.0), ("uniform", 1 / 3)])
def test_regressions_are_isotropic(covariates, variance, seed):
    """E w_i^2 = 1, E x_i^2 = 1 or 1/3, and E y^2 = N E x_i^2 of a query without noise."""
    made = TASKS["regression"](
        seed=seed, trials=4000, inputs=3, examples=2, covariates=covariates, noise=0.5
    )
    x, y, w = made.features.values[..., :3], made.features.values[..., 3], made.weights.values
    assert_expected(w**2, 1.0)
    assert_expected(w[:, 0] * w[:, 1], 0.0)
    assert_expected(x[:, 0] ** 2, variance)
    assert_expected(x[:, 0, 0] * x[:, 1, 0], 0.0)
    assert_expected(made.target.values[:, -1] ** 2, 3 * variance)
    noise = y[:, :-1] - (x[:, :-1] * w[:, None]).sum(-1)
    assert_expected(noise**2, 0.5**2)
    assert_close(made.target.values[:, -1, 0], (x[:, -1] * w).sum(-1), "float64")


# Bytes


@pytest.fixture
def text(tmp_path):
    """A file of 200 bytes, of which no two are alike."""
    (tmp_path / "text").write_bytes(bytes(range(200)))
    return str(tmp_path / "text")


@pytest.mark.parametrize(
    ("split", "start", "stop"), [("train", 0, 180), ("validation", 180, 190), ("test", 190, 200)]
)
def test_windows_lie_anywhere_in_their_split(split, start, stop, text, seed):
    made = TASKS["bytes"](seed=seed, trials=6000, length=4, path=text, split=split)
    first = made.tokens.values[:, :1]
    assert np.array_equal(made.tokens.values, first + np.arange(4))
    assert np.array_equal(made.target.values, first + np.arange(1, 5))
    assert made.scored.all()
    assert made.target.values.max() < stop
    assert_law(first - start, np.ones(stop - start - 4))


def test_a_window_may_fill_its_split(text):
    made = TASKS["bytes"](trials=3, length=9, path=text, split="test")
    assert (made.tokens.values == np.arange(190, 199)).all()
    told = r"test split of .* has 10 bytes, too few for windows of 10 and the byte after; give"
    with pytest.raises(FwbioError, match=told):
        TASKS["bytes"](length=10, path=text, split="test")


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name, said in {
        "b.txt": "second",
        "a/c.txt": "first",
        "c.md": "left out",
        ".git/d.txt": "hidden",
        "a/.e.txt": "hidden",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(said)
    assert bytes(read_corpus(str(tmp_path), "*.txt").data) == b"firstsecond"
    assert bytes(read_corpus(str(tmp_path), "*").data) == b"firstsecondleft out"
    assert bytes(read_corpus(str(tmp_path / "c.md"), "*.txt").data) == b"left out"


def test_a_relative_path_is_of_the_folder_one_is_in(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        assert bytes(read_corpus("text").data) == name.encode()


def test_the_standard_library_s_sources_are_a_text(seed):
    sources = sorted(Path(SOURCES).glob("*.py"))
    whole = b"".join(source.read_bytes() for source in sources)
    made = episode("bytes", seed=seed, trials=50)
    assert made.attrs["corpus_bytes"] == len(whole)
    for tokens, target in zip(made.tokens.values, made.target.values, strict=True):
        window = bytes([*tokens.tolist(), int(target[-1])])
        assert window in whole[: len(whole) * 9 // 10]
        assert bytes(target.tolist()) == window[1:]


def test_a_text_is_known_by_its_checksum(tmp_path):
    """The SHA-256 of "abc", FIPS 180-2, B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert read_corpus(str(tmp_path / "abc")).sha256 == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_text_that_can_t_be_read_is_told(text, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FwbioError, match=r"text' can't be read \(Permission denied\); give"):
        TASKS["bytes"](path=text)


# Mistakes

WRONG = {
    "no path": ("bytes", {}, "no text is named; give path = a file or a folder"),
    "a missing path": (
        "bytes",
        {"path": "/no/such"},
        "there is no file or folder '/no/such'; give",
    ),
    "no such files": (
        "bytes",
        {"path": SOURCES, "pattern": "*.none"},
        r"has no text in files '\*.none'; give another",
    ),
    "a pattern from the root": ("bytes", {"path": SOURCES, "pattern": "/x"}, "'/x' is not a patt"),
    "nobody's home": ("bytes", {"path": "~no such user/x"}, "there is no file or folder '/"),
    "a path that is no text": ("bytes", {"path": 3}, "path = 3 is of another type; give text"),
    "an unknown split": ("bytes", {"split": "dev"}, "no split called 'dev'; choose from"),
    "more letters than there are": (
        "associative_retrieval",
        {"pairs": 27},
        "pairs = 27 is out of range; give a whole number from 1 to 26",
    ),
    "perhaps repeated": (
        "key_value",
        {"repeated": "yes"},
        "repeated = 'yes' is of another type; give True or False",
    ),
    "more than an int32 counts": (
        "modular_sum",
        {"modulus": 2**31},
        "modulus = 2147483648 is out of range; give a whole number from 2 to 2147483647",
    ),
    "more than memory holds": (
        "parity",
        {"trials": 2**31 - 1, "length": 2**20},
        "an episode of these sizes does not fit into memory; give smaller ones",
    ),
    "no keys": ("key_value", {"keys": 0}, "keys = 0 is out of range"),
    "an odd length": ("mqar", {"length": 63}, "pairs don't fill 63 steps; give an even length"),
    "too many pairs": (
        "mqar",
        {"pairs": 17},
        "17 pairs and their queries don't fit into 64 steps; give length = 68 or more",
    ),
    "too few keys": (
        "mqar",
        {"vocabulary": 8},
        "4 keys can't differ among 3; give vocabulary = 10 or more",
    ),
    "a negative power": ("mqar", {"power": -0.1}, "power = -0.1 is out of range"),
    "unknown fillers": ("mqar", {"fillers": "zero"}, r"no fillers called 'zero'; did you mean"),
    "no length": ("parity", {"length": 0}, "length = 0 is out of range"),
    "a modulus of 1": ("modular_sum", {"modulus": 1}, "modulus = 1 is out of range; .* from 2 up"),
    "too many elements": ("permutations", {"elements": 7}, "elements = 7 .* from 2 to 6"),
    "unknown moves": ("permutations", {"moves": "swap"}, r"no moves called 'swap'; did you mean"),
    "one symbol": ("copying", {"symbols": 1}, "symbols = 1 is out of range"),
    "no delay": ("copying", {"delay": 0}, "delay = 0 is out of range; give a whole number from 1"),
    "negative noise": ("regression", {"noise": -1.0}, "noise = -1.0 is out of range"),
    "another task's size": ("parity", {"pairs": 3}, "no size called 'pairs'"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_told(mistake):
    task, sizes, told = WRONG[mistake]
    with pytest.raises(FwbioError, match=rf"^task {task}: .*{told}"):
        TASKS[task](**sizes)


def test_sizes_at_their_limits_are_sound():
    assert TASKS["mqar"](vocabulary=10, length=16, pairs=4).scored.sum() == 8 * 4
    assert TASKS["associative_retrieval"](pairs=26).sizes["step"] == 55
    assert TASKS["key_value"](keys=1, trials=1).target.values.tolist() == [[0, 0]]


@tasks
def test_a_programmer_of_pairs_takes_no_sequences(task):
    with pytest.raises(FwbioError, match=f"no task called '{task}'"):
        TrainingConfig(rule="delta", task=task)
