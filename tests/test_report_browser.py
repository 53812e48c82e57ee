"""The report in a real browser: clicked through, by keyboard, on a phone, in the dark, on paper."""

import numpy as np
import pytest
from browser import launched, opened
from synthetic import refuse_oja, synaptic_record

from fwbio import analyses, models
from fwbio.analyses import outputs, recall
from fwbio.analyses.recall import recall_hits
from fwbio.analyses.report.explorer import COSINE_STEP
from fwbio.analyses.substrates import SUBSTRATES

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
RULES, PAIRS, TRIALS, SYNAPTIC = ("delta", "oja"), 4, 3, 2
TURNED = {"trial": 1, "step": -2}  # where spiking recalls the opposite of everything else

CONTRASTS = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (c) => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
    if (!node.getClientRects().length) continue;
    const pair = [numbers(getComputedStyle(node).color), ground(node)].map(luminance);
    const [low, high] = pair.sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), walker.currentNode.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""

OVERFLOWING = """() => [...document.querySelectorAll("body *")]
  .filter((node) => node.checkVisibility() && !node.closest(".wide") && !node.closest(".skip"))
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5)
  .map((node) => node.outerHTML.slice(0, 80))"""


def opposite_at_one_cue(program, substrate="spiking", **options):
    record = synaptic_record(program, substrate, **options)
    if substrate == "spiking":
        record.readout[TURNED] *= -1
    return record


@pytest.fixture(scope="module")
def tree():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "execute", opposite_at_one_cue)
        patch.setattr(models, "unsupported", refuse_oja)
        return analyses.compare(
            rules=RULES,
            programmers=("designed",),
            pairs=PAIRS,
            trials=TRIALS,
            synaptic_trials=SYNAPTIC,
            progress=False,
        )


@pytest.fixture(scope="module")
def report(tree, tmp_path_factory):
    return outputs.write(tree, tmp_path_factory.mktemp("report"), with_tree=False)


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture
def look(browser, report):
    """Opens the report in a way of looking at it; nothing may have gone wrong in the end."""

    def look(**options):
        return opened(browser, report, **options)

    return look


@pytest.fixture
def page(look):
    with look() as (page, faults):
        yield page
        assert faults == []


def cue_steps(tree, trial):
    return np.flatnonzero(tree["episode"].scored.values[trial])


def shown(page):
    """What the cards show: by title, the numbers drawn, and the verdict and cosine of recalls."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("#explorer-view .card")].map(
          (card) => [card.dataset.card ?? card.dataset.substrate, {
            drawn: card.querySelector("canvas[role=img]")?.dataset.values.split(" ").map(Number),
            hit: card.dataset.hit, cosine: Number(card.dataset.cosine),
            verdict: card.querySelector(".verdict")?.textContent,
          }]))"""
    )


def chosen(page):
    names = ("programmer", "rule", "trial", "cue")
    return tuple(page.locator(f"#choose-{name}").input_value() for name in names)


def assert_shows(page, tree, rule, trial, cue):
    """The cards hold the episode's and the records' own numbers."""
    cards, episode = shown(page), tree["episode"]
    assert set(cards) == {"cue", "target", *SUBSTRATES}
    step = cue_steps(tree, trial)[cue]
    near(cards["cue"]["drawn"], episode.cue.values[trial, step], episode.cue)
    source = int(episode.source.values[trial, step])
    near(cards["target"]["drawn"], episode.content.values[trial, source], episode.content)
    for substrate in SUBSTRATES:
        card = cards[substrate]
        if f"/designed/{substrate}/{rule}" not in tree.groups:
            assert card["verdict"].startswith("not run: ") and card["drawn"] is None
            continue
        record = tree[f"designed/{substrate}/{rule}"].to_dataset()
        if trial >= record.sizes["trial"]:
            assert card["verdict"] == "not run in this trial" and card["drawn"] is None
            continue
        readout, target = record.readout.values[trial, step], record.target.values[trial, step]
        near(card["drawn"], readout + episode.content_baseline.values, record.readout)
        right = bool(recall_hits(record).values[trial, step])
        assert card["hit"] == str(right).lower()
        assert card["verdict"] == ("✓ right" if right else "✗ wrong")
        assert abs(card["cosine"] - recall.cosine(readout, target)) <= COSINE_STEP / 2 + 5e-4


def near(drawn, values, of):
    """Within half of one of the 127 steps that the largest number has, and the baseline's."""
    step = (np.abs(of.values).max() + 1) / 127
    assert len(drawn) == values.size
    assert np.abs(np.array(drawn) - values).max() <= step / 2


def test_nothing_goes_wrong_on_opening(page):
    sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) == 6 and min(sizes) > 100
    assert page.locator("#explorer-app").is_visible()
    assert page.locator("noscript .note").count() == 0


def test_what_goes_wrong_is_seen(look):
    """The policy forbids the network, and the tests notice what is forbidden."""
    with look() as (page, faults):
        tried = "fetch('http://127.0.0.1:9/').then(() => 'came', () => 'refused')"
        assert page.evaluate(tried) == "refused"
        assert any("Content Security Policy" in fault for fault in faults)


def test_every_choice_shows_the_records_numbers(page, tree):
    assert chosen(page) == ("designed", "delta", "0", "0")
    for rule in RULES:
        page.select_option("#choose-rule", rule)
        for trial in range(TRIALS):
            page.select_option("#choose-trial", index=trial)
            for cue in range(PAIRS):
                page.select_option("#choose-cue", index=cue)
                assert_shows(page, tree, rule, trial, cue)


def test_buttons_step_through_cues(page, tree):
    page.click("#cue-after")
    assert_shows(page, tree, "delta", 0, 1)
    page.click("#cue-before")
    page.click("#cue-before")
    assert chosen(page)[2:] == (str(TRIALS - 1), str(PAIRS - 1))
    page.click("#cue-after")
    assert chosen(page)[2:] == ("0", "0")


def test_a_button_finds_where_substrates_differ(page, tree):
    records = [tree[f"designed/{s}/delta"].to_dataset() for s in SUBSTRATES]
    hits = np.stack([recall_hits(record).values[:SYNAPTIC] for record in records])
    apart = {
        (trial, cue)
        for trial in range(SYNAPTIC)
        for cue, step in enumerate(cue_steps(tree, trial))
        if len(set(hits[:, trial, step])) == 2
    }
    found = set()
    for _ in range(len(apart) + 1):
        page.click("#cue-apart")
        found.add(tuple(map(int, chosen(page)[2:])))
    assert (TURNED["trial"], PAIRS - 2) in apart and found >= apart
    assert {verdict["verdict"] for verdict in shown(page).values()} >= {"✓ right", "✗ wrong"}


def test_what_is_shown_is_said(page, tree):
    said = page.locator("#explorer-said")
    assert said.get_attribute("aria-live") == "polite"
    page.select_option("#choose-trial", index=2)
    text = said.inner_text()
    lag = tree["episode"].lag.values[2, cue_steps(tree, 2)[0]]
    assert f"delta: trial 3 of {TRIALS}, cue 1 of {PAIRS}, lag {lag} presentations" in text
    assert text.endswith("not run on flow, rate, spiking.")


def test_an_address_leads_to_a_cue(look, tree):
    with look(fragment="#explorer:designed/oja/2/3") as (page, faults):
        assert_shows(page, tree, "oja", 1, 2)
        page.click("#cue-after")
        assert page.evaluate("location.hash") == "#explorer:designed/oja/2/4"
        page.evaluate("location.hash = '#explorer:nobody/delta/1/999'")
        page.wait_for_function("document.getElementById('choose-rule').value === 'delta'")
        assert chosen(page) == ("designed", "delta", "0", str(PAIRS - 1))
        page.evaluate("location.hash = '#explorer:%'")
        assert faults == []


def test_everything_is_reached_and_used_by_keyboard(page, tree):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        at, outlined = page.evaluate(
            """() => { const at = document.activeElement, style = getComputedStyle(at);
              return [at.id || at.tagName,
                      style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2]; }"""
        )
        if at == "BODY":
            break
        assert outlined, at
        reached.append(at)
        if at == "choose-rule":
            page.keyboard.press("ArrowDown")
            assert chosen(page)[1] == "oja"
            page.keyboard.press("ArrowUp")
        if at == "cue-after":
            page.keyboard.press("Enter")
            page.keyboard.press("Space")
            assert chosen(page)[3] == "2"
        if at == "explorer-view":
            for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowLeft"):
                page.keyboard.press(key)
            assert_shows(page, tree, "delta", 0, 1)
        if at == "SUMMARY":
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.parentElement.open")
    wanted = ["choose-programmer", "choose-rule", "choose-trial", "choose-cue"]
    wanted += ["cue-before", "cue-after", "cue-apart", "explorer-view"]
    assert [name for name in reached if name in wanted] == wanted
    assert reached.count("SUMMARY") == page.locator("summary").count()


def test_every_control_has_a_name(page):
    for role, names in {
        "combobox": ("programmer", "rule", "trial", "cue"),
        "button": ("previous cue", "next cue", "next where substrates differ"),
        "group": ("Explorer of episodes", "What to show"),
        "navigation": ("Contents",),
        "img": ("cue", "target"),
    }.items():
        for name in names:
            assert page.get_by_role(role, name=name, exact=True).count() == 1, name
    assert page.get_by_role("img", name="recall on spiking").count() == 1
    unnamed = "document.querySelectorAll('canvas:not([aria-label]):not([aria-hidden])').length"
    assert page.evaluate(unnamed) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(look, scheme):
    with look(color_scheme=scheme) as (page, faults):
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        found = page.evaluate(CONTRASTS)
        assert len(found) > 100
        assert min(found)[0] >= 4.5, min(found)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != (
            "rgb(255, 255, 255)"
        )
        assert dark == (scheme == "dark")
        image = page.evaluate("document.querySelector('figure img').currentSrc")
        source = page.locator("figure source").first.get_attribute("srcset")
        assert (image == source) == dark
        assert faults == []


def test_a_phone_needs_no_sideways_scrolling(look, tree):
    with look(**PHONE, color_scheme="dark") as (page, faults):
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate(OVERFLOWING) == []
        touchable = page.evaluate(
            "[...document.querySelectorAll('.controls select, .controls button')]"
            ".map((node) => node.getBoundingClientRect().height)"
        )
        assert min(touchable) >= 44
        assert_shows(page, tree, "delta", 0, 0)
        assert faults == []


def until(page, expression):
    """Whether something comes true within two seconds; the page's policy forbids waiting within."""
    for _ in range(40):
        if page.evaluate(expression):
            return True
        page.wait_for_timeout(50)
    return False


@pytest.mark.parametrize("scripts", [True, False])
def test_a_figure_on_a_phone_fits_and_is_enlarged_by_a_touch(look, scripts):
    with look(**PHONE, java_script_enabled=scripts) as (page, faults):
        figures = page.locator("figure:has(> .wide)")
        assert figures.count() == 6
        for at in range(figures.count()):
            image = figures.nth(at).locator("img")
            assert image.bounding_box()["width"] <= 360
            image.tap()
            own = int(image.get_attribute("width"))
            assert image.bounding_box()["width"] >= own
            assert figures.nth(at).get_by_role("checkbox").is_checked()
            image.tap()
            assert image.bounding_box()["width"] <= 360
        assert faults == []


def test_a_figure_is_enlarged_and_scrolled_by_keyboard(look):
    with look(viewport=PHONE["viewport"]) as (page, faults):
        box = page.locator("#lag .wide")
        toggle = page.get_by_role("checkbox", name="Full size, to scroll: Recall against age")
        assert box.get_attribute("tabindex") is None
        toggle.focus()
        page.keyboard.press("Space")
        assert until(page, "document.querySelector('#lag .wide').tabIndex === 0")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == (
            "Recall against age, figure"
        )
        page.keyboard.press("ArrowRight")
        assert until(page, "document.querySelector('#lag .wide').scrollLeft > 0")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        assert until(page, "!document.querySelector('#lag .wide').hasAttribute('tabindex')")
        assert faults == []


def test_a_wide_page_does_not_offer_what_it_has(look):
    with look(viewport={"width": 1280, "height": 800}) as (page, faults):
        widths = page.evaluate(
            """() => [...document.querySelectorAll("figure:has(> .wide)")].map((figure) => [
              figure.querySelector("img").getBoundingClientRect().width,
              Number(figure.querySelector("img").getAttribute("width")),
              figure.querySelector("input").checkVisibility()])"""
        )
        assert len(widths) == 6
        for shown, own, offered in widths:
            assert offered == (shown < 0.8 * own) or 0.8 * own <= shown < 0.9 * own
        assert faults == []


def test_a_table_on_a_phone_keeps_its_first_column_in_sight(look):
    with look(**PHONE) as (page, faults):
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        moved = page.evaluate(
            """() => [...document.querySelectorAll(".wide:has(table)")].map((box) => {
              box.scrollLeft = 10000;
              const left = box.getBoundingClientRect().left;
              const first = [...box.querySelectorAll("tr > :first-child")];
              const away = first.map((cell) => Math.abs(cell.getBoundingClientRect().left - left));
              return [box.scrollLeft, Math.max(...away)];
            })"""
        )
        assert max(scrolled for scrolled, _ in moved) > 100
        assert all(away < 1 for _, away in moved)
        assert faults == []


def test_swipes_change_the_cue(look):
    with look(**PHONE) as (page, faults):
        view = page.locator("#explorer-view")
        view.scroll_into_view_if_needed()
        swipe(page, view, -150, 10)
        assert chosen(page)[2:] == ("0", "1")
        swipe(page, view, 150, 10)
        assert chosen(page)[2:] == ("0", "0")
        swipe(page, view, -30, 10)
        swipe(page, view, -60, 200)
        assert chosen(page)[2:] == ("0", "0")
        assert faults == []


def swipe(page, element, across, down):
    """A finger on the element, put down, moved and lifted."""
    element.evaluate(
        """(node, [across, down]) => {
          const at = (x, y) => new Touch({identifier: 1, target: node, clientX: x, clientY: y});
          const send = (type, touch, here) => node.dispatchEvent(new TouchEvent(type,
            {touches: here ? [touch] : [], changedTouches: [touch], bubbles: true}));
          send("touchstart", at(200, 300), true);
          send("touchend", at(200 + across, 300 + down), false);
        }""",
        [across, down],
    )


def test_paper_gets_everything_but_the_controls(look):
    with look(color_scheme="dark") as (page, faults):
        page.emulate_media(media="print")
        assert not page.locator(".controls").is_visible()
        assert page.locator("#explorer-view .card").first.is_visible()
        assert min(page.evaluate(CONTRASTS))[0] >= 4.5
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert page.pdf().startswith(b"%PDF")
        assert faults == []


def test_without_scripts_the_figure_stands_in(look):
    with look(java_script_enabled=False) as (page, faults):
        assert not page.locator("#explorer-app").is_visible()
        note = page.locator("noscript .note")
        assert note.is_visible() and "needs JavaScript" in note.inner_text()
        anchor = note.locator("a").get_attribute("href")
        assert page.locator(f"figure{anchor} img").is_visible()
        assert faults == []
