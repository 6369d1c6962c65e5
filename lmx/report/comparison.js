"use strict";
// Draws every chart, and passes on what the controls say: which axis is on x, and which arms are shown.
const specs = JSON.parse(document.getElementById("specs").textContent);
const views = [];
const arms = [...document.querySelectorAll("input[name=arm]")];
const axis = () => document.querySelector("input[name=axis]:checked");

function signal(view, name, value) {
  if (name in view.getState().signals) view.signal(name, value);
}

function apply() {
  const shown = arms.filter((box) => box.checked);
  for (const element of document.querySelectorAll("[data-arm]")) {
    element.hidden = !shown.some((box) => box.dataset.place === element.dataset.arm);
  }
  for (const { view, frontier } of views) {
    if (axis() && !frontier) signal(view, "axis", axis().value);
    signal(view, "shown", shown.map((box) => box.value));
    view.resize().runAsync();
  }
  resized();
}

function resized() {
  window.dispatchEvent(new Event("resize")); // charts that were hidden have no width yet
}

// ast: expressions are interpreted, so that the page needs no right to evaluate code
const options = { ast: true, actions: false, renderer: "svg", tooltip: { theme: "page" } };
Promise.all(
  [...document.querySelectorAll("[data-chart]")].map((place) =>
    vegaEmbed(place, specs[place.dataset.chart], options).then(({ view }) =>
      views.push({ view, frontier: place.dataset.fixed === "axis" }),
    ),
  ),
).then(() => {
  apply();
  document.documentElement.dataset.drawn = String(views.length);
});
document.addEventListener("change", apply);
document.addEventListener("toggle", resized, true);
window.addEventListener("beforeprint", () => {
  for (const element of document.querySelectorAll("details")) element.open = true;
});
