"use strict";
(() => {
  const app = document.getElementById("explorer-app");
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const view = document.getElementById("explorer-view");
  const said = document.getElementById("explorer-said");
  const choices = Object.fromEntries(
    ["programmer", "rule", "trial", "cue"].map((name) => [
      name,
      document.getElementById(`choose-${name}`),
    ]),
  );
  const COSINE_STEP = 1e-4;
  // matplotlib's gray, and ColorBrewer's PuOr: dark at both ends, light in the middle
  const SCALES = {
    gray: ["#000000", "#ffffff"],
    diverging: [
      "#7f3b08", "#b35806", "#e08214", "#fdb863", "#fee0b6", "#f7f7f7",
      "#d8daeb", "#b2abd2", "#8073ac", "#542788", "#2d004b",
    ],
  };
  const state = { programmer: "", rule: "", trial: 0, cue: 0 };

  /** Numbers of the page's data: whole ones, which a step turns into values. */
  function decoded(array) {
    const bytes = Uint8Array.from(atob(array.data), (letter) => letter.charCodeAt(0));
    const Kind = { int8: Int8Array, int16: Int16Array }[array.kind];
    return { shape: array.shape, step: array.step ?? 1, numbers: new Kind(bytes.buffer) };
  }
  /** The values at the leading indices of an array, in a row. */
  function at(array, ...indices) {
    const size = array.shape.slice(indices.length).reduce((a, b) => a * b, 1);
    const start = indices.reduce((sum, index, axis) => sum * array.shape[axis] + index, 0) * size;
    return Array.from(array.numbers.subarray(start, start + size), (n) => n * array.step);
  }
  for (const name of ["cue", "contents", "source", "lag"]) data[name] = decoded(data[name]);
  for (const run of data.runs) {
    for (const name of ["recalled", "hit", "cosine", "nearest", "nearest_cosine"]) {
      run[name] = decoded(run[name]);
    }
  }

  function made(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }
  function scaleOf(picture) {
    return picture.low === 0 ? SCALES.gray : SCALES.diverging;
  }
  /** Red, green and blue of a share from 0 to 1 of a scale. */
  function colour(scale, share) {
    const place = Math.min(Math.max(share, 0), 1) * (scale.length - 1);
    const below = Math.min(Math.floor(place), scale.length - 2);
    const [from, to] = [scale[below], scale[below + 1]].map((code) =>
      [1, 3, 5].map((i) => parseInt(code.slice(i, i + 2), 16)),
    );
    return from.map((channel, i) => Math.round(channel + (place - below) * (to[i] - channel)));
  }
  /** Values as a canvas with one pixel each. */
  function drawn(values, picture, words) {
    const canvas = made("canvas", { width: picture.width, height: picture.height });
    if (words) {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", words);
      canvas.dataset.values = values.map((value) => value.toPrecision(6)).join(" ");
    } else {
      canvas.setAttribute("aria-hidden", "true");
    }
    canvas.style.setProperty("--ratio", picture.width / picture.height);
    const context = canvas.getContext("2d");
    const image = context.createImageData(picture.width, picture.height);
    values.forEach((value, i) => {
      const share = (value - picture.low) / (picture.high - picture.low);
      image.data.set([...colour(scaleOf(picture), share), 255], 4 * i);
    });
    context.putImageData(image, 0, 0);
    return canvas;
  }
  function scaleBar(picture, words) {
    const steps = Array.from({ length: 64 }, (_, i) => i / 63);
    const values = steps.map((x) => picture.low + x * (picture.high - picture.low));
    const bar = drawn(values, { ...picture, width: 64, height: 1 });
    const ends = [picture.low, picture.high].map((end) => made("span", {}, end.toPrecision(2)));
    const row = made("div", { class: "ends" }, ends[0], bar, ends[1]);
    return made("div", { class: "scale" }, made("p", {}, words), row);
  }

  function runOf(substrate) {
    return data.runs.find(
      (run) =>
        run.programmer === state.programmer &&
        run.rule === state.rule &&
        run.substrate === substrate,
    );
  }
  function hit(run, trial, cue) {
    return run && trial < run.trials ? at(run.hit, trial, cue)[0] === 1 : null;
  }
  function card(title, kind, ...children) {
    return made("figure", { class: `card ${kind}` }, made("h3", {}, ...[title].flat()), ...children);
  }
  function candidates(run, source) {
    const here = [state.trial, state.cue];
    const cosines = at(run.nearest_cosine, ...here);
    const rows = at(run.nearest, ...here).map((pair, rank) => {
      const value = cosines[rank] * COSINE_STEP;
      const filled = made("i");
      filled.style.width = `${100 * Math.max(value, 0)}%`;
      const content = drawn(at(data.contents, state.trial, pair), data.content);
      const name = `${pair === source ? "◆ " : ""}pair ${pair + 1}`;
      const bar = made("span", { class: "bar", "aria-hidden": "true" }, filled);
      const attributes = pair === source ? { class: "is-target" } : {};
      const cells = [content, made("span", {}, name), made("b", {}, value.toFixed(2)), bar];
      return made("li", attributes, ...cells);
    });
    const label = "Nearest stored contents and their cosines; the target has a diamond";
    return made("ol", { class: "best", "aria-label": label }, ...rows);
  }
  /** The read-out as a content, or in a code of its own below the content it is nearest to. */
  function recalled(run, substrate, verdict) {
    const here = [state.trial, state.cue];
    const values = at(run.recalled, ...here);
    if (run.of_contents) {
      return [drawn(values, data.content, `recall on ${substrate}: ${verdict}`)];
    }
    const nearest = at(run.nearest, ...here)[0];
    const content = drawn(at(data.contents, state.trial, nearest), data.content);
    const code = drawn(values, run.code, `read-out in its code on ${substrate}: ${verdict}`);
    code.classList.add("code");
    return [content, made("p", {}, `nearest stored: pair ${nearest + 1}; its read-out:`), code];
  }
  function recallCard(substrate, source) {
    const title = [made("i", { class: `chip of-${substrate}` }), substrate];
    const run = runOf(substrate);
    const right = hit(run, state.trial, state.cue);
    if (right === null) {
      const why = run ? "not run in this trial" : "not run: see “What was not run”";
      const empty = card(title, "", made("p", { class: "verdict" }, why));
      empty.dataset.substrate = substrate;
      return empty;
    }
    const here = [state.trial, state.cue];
    const cosine = (at(run.cosine, ...here)[0] * COSINE_STEP).toFixed(3);
    const verdict = `${right ? "right" : "wrong"}, cosine ${cosine}`;
    const shown = card(
      title,
      right ? "is-right" : "is-wrong",
      ...recalled(run, substrate, verdict),
      made("p", { class: "verdict" }, right ? "✓ right" : "✗ wrong"),
      made("p", {}, `cosine with target ${cosine}`),
      candidates(run, source),
    );
    shown.dataset.substrate = substrate;
    shown.dataset.hit = right;
    shown.dataset.cosine = cosine;
    return shown;
  }
  function sentence(lag) {
    const verdicts = data.substrates.map((s) => [s, hit(runOf(s), state.trial, state.cue)]);
    const named = (verdict) => verdicts.filter(([, v]) => v === verdict).map(([s]) => s).join(", ");
    const parts = [
      [named(true), "right on"],
      [named(false), "wrong on"],
      [named(null), "not run on"],
    ].filter(([names]) => names);
    const told = parts.map(([names, how]) => `${how} ${names}`).join("; ");
    return (
      `${state.programmer} programmer, ${state.rule}: trial ${state.trial + 1} of ${data.trials},` +
      ` cue ${state.cue + 1} of ${data.cues}, lag ${lag} presentations: ${told}.`
    );
  }
  function show({ linked = true } = {}) {
    const here = [state.trial, state.cue];
    const source = at(data.source, ...here)[0];
    const lag = at(data.lag, ...here)[0];
    const target = at(data.contents, state.trial, source);
    const position = `stored as pair ${source + 1} of ${data.pairs}`;
    const asked = [
      card("cue", "", drawn(at(data.cue, ...here), data.item, "cue"),
        made("p", {}, `lag ${lag} (presentations)`)),
      card("target", "", drawn(target, data.content, "target"), made("p", {}, position)),
    ];
    for (const [i, name] of ["cue", "target"].entries()) asked[i].dataset.card = name;
    const coded = data.substrates.map(runOf).find((run) => run && !run.of_contents);
    const scales = made("div", { class: "scales" },
      scaleBar(data.item, "cue: a feature of an item"),
      scaleBar(data.content, "target and recall: a feature of a content"),
      ...(coded ? [scaleBar(coded.code, "read-out, in the program's own code")] : []),
      made("p", { class: "faint" }, "What lies beyond a scale has the colour of its end."),
    );
    view.replaceChildren(
      made("div", { class: "cards" }, ...asked, scales),
      made("div", { class: "cards" }, ...data.substrates.map((s) => recallCard(s, source))),
    );
    said.textContent = sentence(lag);
    for (const [name, choice] of Object.entries(choices)) choice.value = String(state[name]);
    if (linked) {
      const link = [state.programmer, state.rule, state.trial + 1, state.cue + 1];
      history.replaceState(null, "", `#explorer:${link.join("/")}`);
    }
  }
  function move(cues, trials) {
    const rows = data.cues * data.trials;
    const place = state.trial * data.cues + state.cue + cues + trials * data.cues;
    const next = ((place % rows) + rows) % rows;
    [state.trial, state.cue] = [Math.floor(next / data.cues), next % data.cues];
    show();
  }
  function toDifference() {
    const rows = data.cues * data.trials;
    const start = state.trial * data.cues + state.cue;
    for (let ahead = 1; ahead <= rows; ahead += 1) {
      const place = (start + ahead) % rows;
      const [trial, cue] = [Math.floor(place / data.cues), place % data.cues];
      const verdicts = data.substrates.map((s) => hit(runOf(s), trial, cue));
      if (verdicts.includes(true) && verdicts.includes(false)) {
        [state.trial, state.cue] = [trial, cue];
        show();
        return;
      }
    }
    said.textContent = "With this programmer and rule the substrates agree on every cue shown here.";
  }
  /** Take the state from the address, where it names one; whether it does. */
  function followed() {
    const [kind, rest] = location.hash.split(":");
    if (kind !== "#explorer" || !rest) return false;
    const [programmer, rule, trial, cue] = rest.split("/");
    if (data.programmers.includes(programmer)) state.programmer = programmer;
    if (data.rules.includes(rule)) state.rule = rule;
    const within = (text, count) => Math.min(Math.max(parseInt(text, 10) || 1, 1), count) - 1;
    [state.trial, state.cue] = [within(trial, data.trials), within(cue, data.cues)];
    show({ linked: false });
    document.getElementById("explorer").scrollIntoView({ behavior: "instant" });
    return true;
  }

  function filled(choice, options) {
    choice.replaceChildren(...options.map(([value, text]) => made("option", { value }, text)));
  }
  const counted = (count) => Array.from({ length: count }, (_, i) => [String(i), String(i + 1)]);
  filled(choices.programmer, data.programmers.map((name) => [name, name]));
  filled(choices.rule, data.rules.map((name) => [name, name]));
  filled(choices.trial, counted(data.trials));
  filled(choices.cue, counted(data.cues));
  for (const [name, choice] of Object.entries(choices)) {
    choice.addEventListener("change", () => {
      state[name] = typeof state[name] === "number" ? Number(choice.value) : choice.value;
      show();
    });
  }
  document.getElementById("cue-before").addEventListener("click", () => move(-1, 0));
  document.getElementById("cue-after").addEventListener("click", () => move(1, 0));
  document.getElementById("cue-apart").addEventListener("click", toDifference);
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  view.addEventListener("keydown", (event) => {
    const by = MOVES[event.key];
    if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    move(...by);
  });
  let touched = null;
  view.addEventListener("touchstart", (event) => {
    touched = event.touches.length === 1 ? event.touches[0] : null;
  }, { passive: true });
  view.addEventListener("touchend", (event) => {
    if (!touched) return;
    const lifted = event.changedTouches[0];
    const [x, y] = [lifted.clientX - touched.clientX, lifted.clientY - touched.clientY];
    touched = null;
    if (Math.abs(x) > 40 && Math.abs(x) > 2 * Math.abs(y)) move(x < 0 ? 1 : -1, 0);
  });
  const folded = [...document.querySelectorAll("details")];
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = folded.filter((part) => !part.open);
    for (const part of opened) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
  window.addEventListener("hashchange", followed);

  [state.programmer, state.rule] = [data.programmers[0], data.rules[0]];
  app.hidden = false;
  if (!followed()) show({ linked: false });
})();
