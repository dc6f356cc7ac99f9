"use strict";

// Plots: drawn from the JSON beside them, in the page's own colours.
const dark = matchMedia("(prefers-color-scheme: dark)");

const island = document.getElementById("records");
const records = island ? JSON.parse(island.textContent) : {};

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

// What is told of a record stands once on the page; a point of a figure has the record's label.
function complete(trace) {
  if (trace.meta === "sequential") {
    const style = getComputedStyle(document.documentElement);
    const stops = ["--heat-low", "--heat-middle", "--heat-high"].map((name) => style.getPropertyValue(name).trim());
    return { ...trace, colorscale: stops.map((stop, i) => [i / 2, stop]) };
  }
  return trace.customdata ? { ...trace, hovertext: trace.customdata.map((label) => records[label]) } : trace;
}

function draw(plot) {
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  const options = { responsive: true, displayModeBar: false, doubleClick: "reset" };
  const show = () => Plotly.react(plot, figure.data.map(complete), themed(figure.layout), options);
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
  return show();
}

// plotly stands on the page compressed, which makes that less than half as large; the page's policy knows its hash.
async function loadPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

// One after the other, so that the page can be read and scrolled meanwhile.
async function drawAll() {
  await loadPlotly();
  for (const plot of document.querySelectorAll("[data-figure]")) {
    await draw(plot);
    await new Promise((resume) => setTimeout(resume));
  }
  document.documentElement.dataset.drawn = "all";
}
drawAll();

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
