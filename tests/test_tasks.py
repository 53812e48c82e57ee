"""Tasks: what an episode shows, how its patterns are distributed, and what sizes it refuses."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tolerances import assert_close, assert_expected

from fwbio import FwbioError
from fwbio.tasks import PAIR_TASKS, TASKS

SMALL = {
    "random_pairs": {"trials": 3, "pairs": 4, "gap": 2, "pre": 8, "post": 5},
    "rebinding": {"trials": 3, "pairs": 6, "repeats": 3, "gap": 1, "pre": 8, "post": 5},
    "digits": {"trials": 3, "pairs": 4, "gap": 2},
}
tasks = pytest.mark.parametrize("task", PAIR_TASKS)


def episode(task, seed=0, **sizes):
    return TASKS[task](seed=seed, **SMALL[task] | sizes)


def shown(made):
    """Items and contents of the steps that present a pair."""
    return made.item.values[:, made.writes], made.content.values[:, made.writes]


def test_every_task_is_tested():
    assert SMALL.keys() == PAIR_TASKS.keys()


@tasks
def test_equal_seeds_repeat_and_others_differ(task):
    first, again, other = (episode(task, seed=seed) for seed in (4, 4, 5))
    assert first.identical(again)
    for name in ("item", "content", "cue"):
        assert not np.array_equal(first[name], other[name])


@tasks
def test_every_default_makes_an_episode(task):
    made = TASKS[task]()
    assert made.attrs["task"] == task
    assert made.attrs["seed"] == 0
    assert made.sizes["trial"] == made.attrs["config"]["trials"] == 8


@tasks
def test_trials_show_different_patterns(task):
    items, contents = shown(episode(task))
    for x in (items, contents):
        assert not (x[0][:, None] == x[1]).all(-1).any()


@tasks
def test_pairs_then_a_gap_then_cues(task):
    made = episode(task)
    sizes = SMALL[task]
    distinct = sizes["pairs"] // sizes.get("repeats", 1)
    phases = np.repeat(["pair", "gap", "cue"], [sizes["pairs"], sizes["gap"], distinct])
    assert np.array_equal(made.writes, phases == "pair")
    assert np.array_equal(made.scored, np.tile(phases == "cue", (3, 1)))
    for name, phase in (("item", "pair"), ("content", "pair"), ("cue", "cue")):
        size = np.abs(made[name]).sum(made[name].dims[-1])
        assert np.array_equal(size > 0, np.tile(phases == phase, (3, 1)))


@tasks
def test_each_item_is_asked_for_once_where_it_was_last_shown(task):
    made = episode(task, noise=0.0)
    for trial in range(3):
        one = made.isel(trial=trial)
        sources = one.source.values[one.scored]
        assert len(set(sources)) == len(sources)
        assert set(sources) == set(np.flatnonzero(one.stored))
        assert (one.source.values[~one.scored] == -1).all()
        assert (one.lag.values[~one.scored] == -1).all()
        assert np.array_equal(one.lag.values[one.scored], SMALL[task]["pairs"] - 1 - sources)
        assert np.array_equal(one.cue.values[one.scored], one.item.values[sources])
        items = one.item.values[one.writes]
        for source in sources:
            later = items[source + 1 :]
            assert not (later == items[source]).all(-1).any(), "it is shown again later"


@tasks
def test_cues_come_in_a_random_order(task):
    sources = [
        tuple(episode(task, seed=seed).source.values[trial])
        for seed in range(3)
        for trial in range(3)
    ]
    assert len(set(sources)) > 1


def test_rebinding_shows_every_item_equally_often_with_new_contents():
    items, contents = shown(episode("rebinding", trials=3))
    for trial in range(3):
        _, counts = np.unique(items[trial], axis=0, return_counts=True)
        assert counts.tolist() == [3, 3]
        assert len(np.unique(contents[trial], axis=0)) == 6


@pytest.mark.parametrize("task", ["random_pairs", "rebinding"])
@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_a_cue_s_noise_is_in_units_of_its_item(task, noise):
    """|cue - item|^2 / |item|^2 has mean noise^2."""
    made = TASKS[task](seed=2, trials=50, pairs=4, pre=32, noise=noise)
    item = np.take_along_axis(made.item.values, np.maximum(made.source.values, 0)[..., None], 1)
    excess = ((made.cue.values - item) ** 2).sum(-1)[made.scored]
    assert_close(np.linalg.norm(item, axis=-1), np.ones(made.scored.shape), "float64")
    if noise:
        assert_expected(excess, noise**2)
    else:
        assert not excess.any()


def keys(kind, **sizes):
    defaults = {"seed": 1, "trials": 60, "pairs": 8, "pre": 32}
    made = TASKS["random_pairs"](**defaults | sizes, keys=kind)
    return shown(made)[0], made


def cosines(items):
    """Of different items of the same trial, (trial, pair of items)."""
    unit = items / np.linalg.norm(items, axis=-1, keepdims=True)
    gram = unit @ unit.swapaxes(-1, -2)
    return gram[:, *np.triu_indices(items.shape[1], 1)]


def test_gaussian_keys_are_isotropic_unit_vectors():
    items, made = keys("gaussian")
    assert_close((items**2).sum(-1), np.ones(items.shape[:2]), "float64")
    assert_expected(cosines(items).mean(1), 0.0)
    assert_expected((cosines(items) ** 2).mean(1), 1 / 32)
    assert_expected(items.mean((1, 2)), 0.0)
    assert made.attrs["coding"] == "on_off"


def test_orthonormal_keys_are_orthonormal():
    items, _ = keys("orthonormal", pairs=32)
    gram = items @ items.swapaxes(-1, -2)
    assert_close(gram, np.broadcast_to(np.eye(32), gram.shape), "float64")


@pytest.mark.parametrize(("active", "ones"), [(0.1, 3), (0.5, 16), (0.0, 1), (1.0, 32)])
def test_sparse_keys_are_binary_with_a_share_of_ones(active, ones):
    items, made = keys("sparse", active=active)
    assert set(np.unique(items)) <= {0.0, 1.0}
    assert (items.sum(-1) == ones).all()
    if 0 < active < 1:
        assert_expected(cosines(items).mean(1), ones / 32)
    assert made.attrs["coding"] == "rates"


def test_noisy_sparse_cues_are_rates():
    _, made = keys("sparse", noise=2.0)
    assert (made.cue >= 0).all()


@pytest.mark.parametrize("similarity", [0.0, 0.3, 0.8])
def test_correlated_keys_have_the_mean_cosine_asked_for(similarity):
    items, _ = keys("correlated", similarity=similarity, pre=400, trials=30)
    assert_close((items**2).sum(-1), np.ones(items.shape[:2]), "float64")
    assert_expected(cosines(items).mean(1), similarity)


def test_sign_values_are_fair():
    made = TASKS["random_pairs"](seed=3, trials=50, values="sign")
    contents = shown(made)[1]
    assert set(np.unique(contents)) == {-1.0, 1.0}
    assert_expected(contents.mean((1, 2)), 0.0)


def digits_of(split):
    """All images of a split: as many pairs as there are show every one."""
    count = {"train": 1097, "validation": 200, "test": 500}[split]
    items, contents = shown(TASKS["digits"](trials=1, pairs=count // 2, split=split, noise=0.0))
    return np.concatenate([items[0], contents[0]]), count


def test_the_splits_of_the_digits_share_no_image():
    splits = {split: digits_of(split)[0] for split in ("train", "validation", "test")}
    images = [{image.tobytes() for image in split} for split in splits.values()]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]
    known = {image.tobytes() for image in load_digits().data / 16.0}
    assert set.union(*images) <= known


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_no_image_comes_twice_in_an_episode(split):
    images, count = digits_of(split)
    assert len(images) == count // 2 * 2
    assert len(np.unique(images, axis=0)) == len(images)
    with pytest.raises(FwbioError, match=f"give a whole number from 1 to {count // 2}$"):
        TASKS["digits"](pairs=count // 2 + 1, split=split)


def test_digits_are_images_and_their_baseline_is_of_the_training_images():
    items, contents = shown(TASKS["digits"](seed=1))
    for x in (items, contents):
        assert x.min() >= 0
        assert x.max() == 1
    train = digits_of("train")[0]
    made = TASKS["digits"](split="test")
    assert_close(made.item_baseline, made.content_baseline, "float64")
    # one image of the odd number of training images is left out above
    assert np.abs(made.item_baseline.values - train.mean(0)).max() < 1 / len(train)


def test_digit_cues_are_items_with_noise_on_every_pixel():
    made = TASKS["digits"](seed=1, trials=20, noise=0.3)
    item = np.take_along_axis(made.item.values, np.maximum(made.source.values, 0)[..., None], 1)
    deviation = (made.cue.values - item)[made.scored]
    assert_expected((deviation**2).mean(-1), 0.3**2)
    assert_expected(deviation.mean(-1), 0.0)


WRONG = {
    "unknown size": ("digits", {"pair": 3}, r"no size called 'pair'; did you mean 'pairs'\?"),
    "another task's size": ("digits", {"pre": 3}, "no size called 'pre'"),
    "no trials": ("digits", {"trials": 0}, "trials = 0 is out of range; give a whole"),
    "no pairs": ("random_pairs", {"pairs": 0}, "pairs = 0 is out of range"),
    "half a pair": ("random_pairs", {"pairs": 2.5}, "pairs = 2.5 is out of range; .* whole number"),
    "pairs in words": ("random_pairs", {"pairs": "two"}, "pairs = 'two' is out of range"),
    "true pairs": ("random_pairs", {"pairs": True}, "pairs = True is out of range"),
    "negative noise": ("digits", {"noise": -0.1}, "noise = -0.1 is out of range; give a number"),
    "NaN noise": ("digits", {"noise": float("nan")}, "noise = nan is out of range"),
    "infinite noise": ("digits", {"noise": float("inf")}, "noise = inf is out of range"),
    "a negative gap": ("digits", {"gap": -1}, "gap = -1 is out of range"),
    "too active": ("random_pairs", {"active": 1.5}, "active = 1.5 is out of range; .* from 0 to 1"),
    "too similar": ("random_pairs", {"similarity": 1.1}, "similarity = 1.1 is out of range"),
    "unknown keys": ("random_pairs", {"keys": "gauss"}, "no keys called 'gauss'; did you mean"),
    "unknown values": ("random_pairs", {"values": "x"}, "no values called 'x'; choose from"),
    "unknown split": ("digits", {"split": "dev"}, "no split called 'dev'; choose from test, train"),
    "too many orthonormal items": (
        "random_pairs",
        {"keys": "orthonormal", "pairs": 9, "pre": 8},
        "9 items can't be orthonormal in 8 dimensions; give pre = 9 or more",
    ),
    "too many orthonormal items to rebind": (
        "rebinding",
        {"keys": "orthonormal", "pairs": 18, "repeats": 2, "pre": 8},
        "9 items can't be orthonormal",
    ),
    "uneven repeats": (
        "rebinding",
        {"pairs": 7, "repeats": 2},
        "7 pairs can't be shown 2 times each; give pairs as a multiple of repeats",
    ),
    "a negative seed": ("digits", {"seed": -1}, "-1 is not a seed; give a whole number from 0 up"),
    "no seed": ("digits", {"seed": None}, "None is not a seed"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_told(mistake):
    task, sizes, told = WRONG[mistake]
    with pytest.raises(FwbioError, match=rf"^task {task}: .*{told}"):
        TASKS[task](**sizes)


def test_numpy_numbers_are_sizes_and_seeds():
    made = TASKS["rebinding"](seed=np.int64(1), pairs=np.int64(4), noise=np.float32(0.5))
    assert made.equals(TASKS["rebinding"](seed=1, pairs=4, noise=0.5))


def test_orthonormal_items_may_be_rebound():
    items, _ = shown(TASKS["rebinding"](keys="orthonormal", pairs=16, repeats=2, pre=8, trials=1))
    assert np.linalg.matrix_rank(items[0]) == 8
