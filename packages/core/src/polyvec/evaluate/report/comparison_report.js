// The report of two runs: differences are those of the second minus the first.

const MAIN = DATA.measures[0];
const order = {};
let pairIndex = 0;

function sides(kind, k) {
  return [0, 1].map((side) => perQuery(`${pairIndex}/${side}`, DATA.pairs[pairIndex].ranks[side], kind, k));
}

function changes(kind, k) {
  const [before, after] = sides(kind, k);
  return before.map((value, query) => after[query] - value);
}

function drawDifferences(rows) {
  const pair = DATA.pairs[pairIndex], k = chosen.k;
  const all = chosenPart() === "";
  const columns = [{ title: "measure" }, ...["first", "second", "difference", "95 %", "p", "p (Holm)"].map((title) => ({ title, isNumber: true }))];
  const own = all ? [] : bootstrap(DATA.measures.map(({ kind }) => changes(kind, k)), rows);
  const lines = DATA.measures.map(({ kind, title }, index) => {
    const means = sides(kind, k).map((values) => mean(values, rows));
    const known = pair.differences[`${kind}@${k}`];
    const [low, high] = all ? [known[1], known[2]] : own[index];
    const difference = all ? known[0] : means[1] - means[0];
    const p = (value) => (all ? { value, text: decimal(value, 4) } : { value: 2, text: "–" });
    return [`${title}@${k}`, ...means.map((value) => ({ value, text: decimal(value) })), { value: difference, text: signed(difference) },
      { value: high - low, text: `${signed(low)} to ${signed(high)}` }, p(known[3]), p(known[4])];
  });
  const caption = element("span", {}, "second: ", quoted(pair.names[1]), "; first: ", quoted(pair.names[0]), `; ${whole(rows.length)} queries`);
  replace("differences", sortableTable(caption, columns, lines, order));
}

function drawCharts(rows) {
  const name = `${MAIN.title}@${chosen.k}`;
  const change = changes(MAIN.kind, chosen.k), [before, after] = sides(MAIN.kind, chosen.k);
  const sorted = rows.map((row) => change[row]).sort((a, b) => b - a);
  const gained = sorted.filter((value) => value > 0).length, lost = sorted.filter((value) => value < 0).length;
  const places = new Map();
  for (const row of rows) {
    const key = `${before[row].toFixed(2)} ${after[row].toFixed(2)}`;
    places.set(key, (places.get(key) ?? 0) + 1);
  }
  const most = Math.max(...places.values());
  const points = [...places].map(([key, n]) => {
    const [x, y] = key.split(" ").map(Number);
    return { x, y, radius: 3 + 15 * Math.sqrt(n / most), text: `first ${x}, second ${y}: ${whole(n)} queries` };
  });
  const room = { low: -0.08, high: 1.08 };
  replace("charts", areaOfChanges(`Change of ${name}, sorted`, sorted,
    `${whole(gained)} queries gained, ${whole(lost)} lost, ${whole(sorted.length - gained - lost)} are equal.`),
  scatterChart(`${name} of each query`, { label: "first run", ...room, ticks: [0, 0.25, 0.5, 0.75, 1] }, room, [{ name: "queries", points }],
    "Second run above, first run to the right; the area of a point is the number of queries."));
}

function areaOfChanges(title, sorted, note) {
  const { svg, toX, toY } = axes(title, { label: "queries", low: 0, high: Math.max(1, sorted.length) }, { low: -1, high: 1 });
  const path = sorted.flatMap((value, index) => [`${toX(index).toFixed(1)},${toY(value).toFixed(1)}`, `${toX(index + 1).toFixed(1)},${toY(value).toFixed(1)}`]);
  const points = [`${toX(0)},${toY(0)}`, ...path, `${toX(sorted.length)},${toY(0)}`].join(" ");
  svg.append(svgElement("polygon", { points, "fill-opacity": 0.5, style: `fill: ${color(0)}; stroke: ${color(0)}` }));
  return chart(title, svg, [title], boxMark, note);
}

function drawCards(id, rows, sign) {
  const pair = DATA.pairs[pairIndex], change = changes(MAIN.kind, chosen.k), [before, after] = sides(MAIN.kind, chosen.k);
  const most = rows.filter((row) => sign * change[row] > 0).sort((a, b) => sign * (change[b] - change[a]) || a - b).slice(0, DATA.nMost);
  replace(id, ...(most.length ? most.map((query) => {
    const ranks = [0, 1].map((side) => pair.ranks[side][query]);
    const lines = [`${MAIN.title}@${chosen.k} ${decimal(before[query])} → ${decimal(after[query])}`,
      `first right document: ${ranks.map((side) => rankText(firstRank(side))).join(" → ")}`];
    const roles = new Map();
    const add = (position, role) => { if (position >= 0) roles.set(position, [...(roles.get(position) ?? []), role]); };
    ["first run found first", "second run found first"].forEach((role, side) => add(pair.found[side][query], role));
    QUERIES.relevant[query].slice(0, DATA.mostRight).forEach((position) => add(position, "right"));
    return queryCard(query, lines, [...roles].map(([position, names]) => [names.join(", "), position]));
  }) : [element("p", {}, "None.")]));
}

function draw() {
  const rows = chosenRows();
  drawCount(rows);
  for (const id of ["differences", "charts", "gained", "lost"]) replace(id);
  if (!rows.length) { replace("differences", "No query has all that is chosen."); return; }
  drawDifferences(rows);
  drawCharts(rows);
  drawCards("gained", rows, 1);
  drawCards("lost", rows, -1);
}

drawFilters(draw);
replace("choice", select("search", DATA.pairs.map(({ names }, index) => [index, names[0] === names[1] ? names[0] : names.join(" → ")]), 0,
  (value) => { pairIndex = Number(value); draw(); }));
draw();
