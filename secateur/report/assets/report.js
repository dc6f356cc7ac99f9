"use strict";

// Plots: drawn from the JSON beside them, in the page's own colours.
const dark = matchMedia("(prefers-color-scheme: dark)");

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: color("--line"), linecolor: color("--line") };
  return {
    ...layout,
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--text") },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
    annotations: layout.annotations.map((a) => ({ ...a, font: { ...a.font, color: color("--muted") } })),
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--text"), size: 13 }, align: "left" },
  };
}

function draw(plot) {
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  const options = { responsive: true, displayModeBar: false, doubleClick: "reset" };
  const show = () => Plotly.react(plot, figure.data, themed(figure.layout), options);
  show();
  dark.addEventListener("change", show);
  const buttons = document.querySelectorAll(`[data-view="${plot.id}"]`);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const [x, y] = JSON.parse(button.dataset.ranges);
      figure.layout.xaxis.range = x;
      figure.layout.yaxis.range = y;
      show();
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    });
  }
}

document.querySelectorAll("[data-figure]").forEach(draw);

// The table of trials, if there is one: a click on a header sorts, another one turns the order around; what has no value stays last.
const table = document.getElementById("trials");

function sortBy(header, column) {
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const isNumber = (text) => text !== "" && !Number.isNaN(Number(text));
  const compare = (a, b) => {
    const [one, two] = [a, b].map((row) => row.cells[column].dataset.value);
    if (one === undefined || two === undefined) return (one === undefined) - (two === undefined);
    return direction * (isNumber(one) && isNumber(two) ? one - two : one.localeCompare(two));
  };
  const body = table.tBodies[table.tBodies.length - 1];
  body.append(...[...body.rows].sort(compare));
}

for (const button of table?.querySelectorAll("thead button") ?? []) {
  button.addEventListener("click", () => sortBy(button.closest("th"), Number(button.dataset.column)));
}
