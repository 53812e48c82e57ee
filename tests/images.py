"""How figures are compared with the images kept of them.

Every public function of an analyses module named `*plots.py` has an image test:

    from images import MPL

    @pytest.mark.mpl_image_compare(**MPL)
    def test_image_capacity_plots_by_pairs():  # of `by_pairs` in analyses/capacity_plots.py
        figure, ax = plt.subplots()
        capacity_plots.by_pairs(SMALL_FIXED_NUMBERS, ax)
        return figure

- It is named `test_image_`, the module's path below analyses/ with `_` for `/`, `_`, the function:
  `test_image_benchmarks_plots_scaling_figure`. Further images of one function end in `__` and a
  word. A public function that returns neither Axes nor a Figure needs none.
- It may stand in any test file. What it draws is small and fixed: numbers written down, or of
  `np.random.default_rng(0)`; not of the `rng` fixture, and of no long run.
- `pytest -n 0 tests/test_X.py --mpl-generate-path=tests/images` makes the image, below 30 kB. Look
  at it before it is kept.
"""

# Root mean square over pixels of 0 to 255. Text moves by a fraction of a pixel between versions of
# matplotlib and FreeType; a series that is missing, or in another colour, counts for more.
TOLERANCE = 5.0

MPL = {
    "baseline_dir": "images",
    "style": "default",
    "tolerance": TOLERANCE,
    "savefig_kwargs": {"dpi": 80},
    "deterministic": True,  # no date and no version in the file
}
