"use strict";
(() => {
  // Only what can be scrolled is a stop of the Tab key; without this script every box is one.
  const boxes = [...document.querySelectorAll(".wide")];
  function mark(box) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  const watch = new ResizeObserver(() => boxes.forEach(mark));
  for (const box of boxes) {
    mark(box);
    watch.observe(box);
    for (const inner of box.children) watch.observe(inner);
  }
})();
