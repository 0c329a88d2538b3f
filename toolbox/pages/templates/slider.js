"use strict";
for (const figure of document.querySelectorAll(".slider")) {
  const pair = figure.querySelector(".pair");
  const range = figure.querySelector("input");
  const show = () => pair.style.setProperty("--at", range.value + "%");
  const follow = (event) => {
    const frame = pair.getBoundingClientRect();
    range.value = (100 * (event.clientX - frame.left)) / frame.width;
    show();
  };
  pair.addEventListener("pointerdown", (event) => {
    pair.setPointerCapture(event.pointerId);
    follow(event);
  });
  pair.addEventListener("pointermove", (event) => {
    if (pair.hasPointerCapture(event.pointerId)) follow(event);
  });
  range.addEventListener("input", show);
  /* Without this class, so without scripts, both pictures are side by side. */
  figure.classList.add("live");
  show();
}
