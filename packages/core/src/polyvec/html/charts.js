// Charts as SVG. Colours are those of the style, so they follow light and dark; series differ in dashes, too.

const CHART = { width: 460, height: 280, left: 48, right: 10, top: 12, bottom: 42 };
const DASHES = ["", "6 3", "2 3", "9 3 2 3", "12 4", "1 4", "4 4 1 4"];

function color(index) {
  return `var(--c${index % 7})`;
}

function ticks(low, high, n = 5) {
  const rough = (high - low || 1) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const values = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) values.push(value);
  return values;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return String(+value.toPrecision(3));
}

// Axes of a chart; gives the SVG and functions from values to places. `x` and `y` are {label, low, high, isLog, ticks}.
function axes(title, x, y) {
  const { width, height, left, right, top, bottom } = CHART;
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const flat = (axis, value) => (axis.isLog ? Math.log10(value) : value);
  const share = (axis, value) => (flat(axis, value) - flat(axis, axis.low)) / (flat(axis, axis.high) - flat(axis, axis.low) || 1);
  const toX = (value) => left + share(x, value) * (width - left - right);
  const toY = (value) => height - bottom - share(y, value) * (height - top - bottom);
  const powers = (axis) => ticks(Math.log10(axis.low), Math.log10(axis.high)).filter(Number.isInteger).map((value) => 10 ** value);
  for (const value of x.ticks ?? (x.isLog ? powers(x) : ticks(x.low, x.high))) {
    svg.append(
      svgElement("line", { class: "axis", x1: toX(value), x2: toX(value), y1: height - bottom, y2: height - bottom + 4 }),
      svgElement("text", { x: toX(value), y: height - bottom + 17, "text-anchor": "middle" }, (x.text ?? short)(value)));
  }
  for (const value of ticks(y.low, y.high)) {
    svg.append(
      svgElement("line", { class: "axis", x1: left, x2: width - right, y1: toY(value), y2: toY(value) }),
      svgElement("text", { x: left - 6, y: toY(value) + 4, "text-anchor": "end" }, short(value)));
  }
  svg.append(svgElement("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, x.label));
  return { svg, toX, toY };
}

// `mark` draws the sample of a series in the legend.
function chart(title, svg, names, mark, note = "") {
  const marks = names.map((_, index) => svgElement("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, mark(index)));
  const legend = element("ul", { class: "legend" }, ...names.map((name, index) => element("li", {}, marks[index], quoted(name))));
  return element("figure", { class: "chart" }, element("h3", {}, title), svg, names.length > 1 ? legend : null,
    note ? element("figcaption", {}, note) : null);
}

function lineMark(index) {
  return svgElement("line", { x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 3, "stroke-dasharray": DASHES[index % 7], style: `stroke: ${color(index)}` });
}

function dotMark(index) {
  return svgElement("circle", { cx: 20, cy: 5, r: 4.5, "fill-opacity": 0.65, style: `fill: ${color(index)}; stroke: ${color(index)}` });
}

function boxMark(index) {
  return svgElement("rect", { x: 10, y: 0, width: 15, height: 10, "fill-opacity": 0.5, style: `fill: ${color(index)}` });
}

// `series`: [{name, points: [[x, y], …]}]
function lineChart(title, x, y, series, note) {
  const { svg, toX, toY } = axes(title, x, y);
  series.forEach(({ name, points }, index) => {
    const path = points.map(([px, py]) => `${toX(px).toFixed(1)},${toY(py).toFixed(1)}`).join(" ");
    svg.append(svgElement("polyline", {
      points: path, fill: "none", "stroke-width": 2, "stroke-dasharray": DASHES[index % 7], style: `stroke: ${color(index)}`,
    }, svgElement("title", {}, name)));
  });
  return chart(title, svg, series.map(({ name }) => name), lineMark, note);
}

// `groups`: [{name, points: [{x, y, text}]}]
function scatterChart(title, x, y, groups, note) {
  const { svg, toX, toY } = axes(title, x, y);
  groups.forEach(({ points }, index) => {
    for (const point of points) {
      svg.append(svgElement("circle", {
        cx: toX(point.x), cy: toY(point.y), r: point.radius ?? 5, "fill-opacity": 0.65, style: `fill: ${color(index)}; stroke: ${color(index)}`,
      }, svgElement("title", {}, point.text)));
    }
  });
  return chart(title, svg, groups.map(({ name }) => name), dotMark, note);
}

// `series`: [{name, values}], a value per bin; `edges` has one more. `texts` name the bins, if they are no range.
function barChart(title, x, edges, series, note) {
  const high = Math.max(1e-9, ...series.flatMap(({ values }) => values));
  const { svg, toX, toY } = axes(title, x, { low: 0, high });
  series.forEach(({ name, values }, index) => {
    values.forEach((value, bin) => {
      const from = toX(edges[bin]), to = toX(edges[bin + 1]);
      svg.append(svgElement("rect", {
        x: from + 0.5, y: toY(value), width: Math.max(0.5, to - from - 1), height: toY(0) - toY(value),
        "fill-opacity": 0.5, style: `fill: ${color(index)}`,
      }, svgElement("title", {}, `${name}: ${short(value)}`)));
    });
  });
  return chart(title, svg, series.map(({ name }) => name), boxMark, note);
}
