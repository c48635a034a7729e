// The report of one run.

const MAIN = DATA.measures[0];
const orders = {};
let detail = 0;

function searchName(search) {
  return `${search.kind}: ${search.choice}`;
}

function values(index, kind, k) {
  return perQuery(index, DATA.searches[index].ranks, kind, k);
}

// Intervals of the main measure for some searches: those of Python for the parts it knows, else by bootstrap here.
function intervalsOf(indices, rows, part) {
  const known = indices.map((index) => (part === null ? undefined : DATA.searches[index].intervals[part]?.[chosen.k]));
  if (known.every(Boolean)) return known;
  return bootstrap(indices.map((index) => values(index, MAIN.kind, chosen.k)), rows);
}

function drawSearches(rows) {
  const k = chosen.k;
  const indices = DATA.searches.map((_, index) => index);
  const intervals = rows.length ? intervalsOf(indices, rows, chosenPart()) : [];
  const [main, ...others] = DATA.measures;
  const columns = [{ title: "search" }, { title: "choice" }, ...["bytes/item", "ms/query", `${main.title}@${k}`, "95 %",
    ...others.map((measure) => `${measure.title}@${k}`)].map((title) => ({ title, isNumber: true }))];
  const cell = (value, text = decimal(value)) => ({ value, text });
  const lines = rows.length ? indices.map((index) => {
    const search = DATA.searches[index], [low, high] = intervals[index];
    return [search.kind, search.choice,
      search.bytes === null ? cell(-1, "") : cell(search.bytes, whole(search.bytes)), cell(search.ms, decimal(search.ms, 2)),
      cell(mean(values(index, main.kind, k), rows)), cell(high - low, `${decimal(low)}–${decimal(high)}`),
      ...others.map((measure) => cell(mean(values(index, measure.kind, k), rows)))];
  }) : [];
  replace("searches", sortableTable(`Means over ${whole(rows.length)} queries`, columns, lines, orders.searches ??= {}));
}

function drawParts(rows) {
  const indices = DATA.detailed.map(({ search }) => search);
  const only = chosenPart();
  replace("parts", ...QUERIES.facts.map((fact, position) => {
    const columns = [{ title: fact.name }, { title: "queries", isNumber: true },
      ...indices.map((index) => ({ title: searchName(DATA.searches[index]), isNumber: true }))];
    const lines = fact.values.flatMap((value, number) => {
      const inside = rows.filter((row) => fact.of[row] === number);
      if (!inside.length) return [];
      const part = only === "" || only === `${position}:${number}` ? `${position}:${number}` : null;
      const intervals = intervalsOf(indices, inside, part);
      return [[value, { value: inside.length, text: whole(inside.length) }, ...indices.map((index, column) => {
        const [low, high] = intervals[column];
        const average = mean(values(index, MAIN.kind, chosen.k), inside);
        return { value: average, text: `${decimal(average)} (${decimal(low)}–${decimal(high)})` };
      })]];
    });
    return sortableTable(`${MAIN.title}@${chosen.k} by ${fact.name}`, columns, lines, orders[fact.name] ??= {});
  }));
}

function drawCurves(rows) {
  const ks = Array.from({ length: DATA.depth }, (_, index) => index + 1);
  const unit = { low: 0, high: 1 };
  const curve = (title, kind) => lineChart(`${title} against k`, { label: "k", low: 1, high: Math.max(2, DATA.depth) }, unit,
    DATA.detailed.map(({ search }) => ({
      name: searchName(DATA.searches[search]), points: ks.map((k) => [k, mean(values(search, kind, k), rows)]),
    })), "The first search of each kind, and the baselines.");
  const points = DATA.searches.flatMap((search, index) => search.bytes > 0 ? [{
    kind: search.kind, x: search.bytes, y: mean(values(index, MAIN.kind, chosen.k), rows), search,
  }] : []);
  const sizes = points.map(({ x }) => x), heights = points.map(({ y }) => y);
  const groups = [...new Set(points.map(({ kind }) => kind))].map((name) => ({
    name,
    points: points.filter(({ kind }) => kind === name).map((point) => ({
      ...point, text: `${searchName(point.search)}: ${whole(point.x)} bytes, ${decimal(point.y)}`,
    })),
  }));
  const low = Math.min(...heights), high = Math.max(...heights), room = Math.max(0.01, (high - low) / 10);
  const quality = points.length ? scatterChart(`${MAIN.title}@${chosen.k} against bytes per document`,
    { label: "bytes per document", low: Math.min(...sizes) / 1.5, high: Math.max(...sizes) * 1.5, isLog: true },
    { low: low - room, high: high + room }, groups, "A point is a search of the table; its name appears on hover.") : null;
  replace("curves", curve("nDCG", "ndcg"), curve("recall", "recall"), quality);
}

function drawDistributions(rows) {
  const { search, scores } = DATA.detailed[detail];
  const ranks = DATA.searches[search].ranks;
  const counts = { relevant: new Array(scores.n).fill(0), other: new Array(scores.n).fill(0) };
  for (const row of rows) {
    const right = new Set(ranks[row]);
    [...scores.rows[row]].forEach((digit, index) => counts[right.has(index + 1) ? "relevant" : "other"][parseInt(digit, 36)]++);
  }
  const share = (bins) => { const sum = bins.reduce((a, b) => a + b, 0); return bins.map((n) => n / (sum || 1)); };
  const total = (bins) => whole(bins.reduce((a, b) => a + b, 0));
  const step = (scores.high - scores.low || 1) / scores.n;
  const edges = Array.from({ length: scores.n + 1 }, (_, index) => scores.low + index * step);
  const firsts = rows.map((row) => firstRank(ranks[row]));
  const bars = Array.from({ length: DATA.depth + 1 }, (_, index) => firsts.filter((rank) => rank === (index < DATA.depth ? index + 1 : 0)).length);
  const shown = ticks(1, DATA.depth, 6).filter((rank) => rank < DATA.depth && Number.isInteger(rank));
  replace("distributions",
    barChart("Scores of relevant and of other documents", { label: "score", low: edges[0], high: edges[scores.n] }, edges, [
      { name: `relevant, n = ${total(counts.relevant)}`, values: share(counts.relevant) },
      { name: `not relevant, n = ${total(counts.other)}`, values: share(counts.other) },
    ], `Share of the documents per bin; of the first ${DATA.depth} of each query.`),
    barChart("Rank of the first relevant document",
      { label: "rank", low: 0.5, high: DATA.depth + 1.5, ticks: [...shown, DATA.depth + 1], text: (rank) => (rank > DATA.depth ? "none" : String(rank)) },
      Array.from({ length: DATA.depth + 2 }, (_, index) => index + 0.5), [{ name: "queries", values: bars }],
      `Number of queries; “none”: not among the first ${DATA.depth}.`));
}

function drawWorst(rows) {
  const { search, first } = DATA.detailed[detail];
  const main = values(search, MAIN.kind, chosen.k);
  const worst = [...rows].sort((a, b) => main[a] - main[b] || a - b).slice(0, DATA.nWorst);
  replace("worst", ...worst.map((query) => {
    const ranks = DATA.searches[search].ranks[query], best = firstRank(ranks);
    const lines = [`${MAIN.title}@${chosen.k} ${decimal(main[query])}`, `first right document: ${rankText(best)}`];
    const more = QUERIES.relevant[query].length - DATA.mostRight;
    if (more > 0) lines.push(`${more} more right documents`);
    const right = rightDocuments(query, ranks).filter(([, position]) => position !== first[query]);
    const isRight = QUERIES.relevant[query].includes(first[query]);
    const found = first[query] < 0 ? [] : [[isRight ? "found first, right" : "found first", first[query]]];
    return queryCard(query, lines, [...found, ...right]);
  }));
}

function drawDetail(rows) {
  const here = rows.length > 0;
  if (here) { drawDistributions(rows); drawWorst(rows); } else { replace("distributions"); replace("worst"); }
}

function draw() {
  const rows = chosenRows();
  drawCount(rows);
  drawSearches(rows);
  drawParts(rows);
  if (rows.length) drawCurves(rows); else replace("curves", "No query has all that is chosen.");
  drawDetail(rows);
}

drawFilters(draw);
replace("choice", select("search", DATA.detailed.map(({ search }, index) => [index, searchName(DATA.searches[search])]), 0,
  (value) => { detail = Number(value); drawDetail(chosenRows()); }));
replace("pictures", DATA.hasPictures
  ? `The documents that were found first and those that are right.${DATA.hasMaps ? " Red: the half of the page's patches that is more similar to the query; the map of all tokens has the highest similarity to any token." : ""}`
  : "The documents were not given, so there are no pictures.");
draw();
