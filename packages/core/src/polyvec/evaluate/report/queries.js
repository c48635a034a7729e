// Measures of the chosen queries, from the ranks and grades of their relevant documents; as `metrics.measure` does it.

const RESAMPLES = 1000;
const QUERIES = DATA.queries;
const chosen = { k: DATA.ks[0], facts: QUERIES.facts.map(() => -1) };
const computed = new Map();

function ndcg(ranks, grades, k, gain) {
  let found = 0, best = 0;
  ranks.forEach((rank, index) => { if (rank > 0 && rank <= k) found += gain(grades[index]) / Math.log2(1 + rank); });
  for (let index = 0; index < Math.min(k, grades.length); index++) best += gain(grades[index]) / Math.log2(2 + index);
  return found / best;
}

const MEASURES = {
  ndcg: (ranks, grades, k) => ndcg(ranks, grades, k, (grade) => grade),
  ndcg_exp: (ranks, grades, k) => ndcg(ranks, grades, k, (grade) => 2 ** grade - 1),
  recall: (ranks, grades, k) => ranks.filter((rank) => rank > 0 && rank <= k).length / grades.length,
  mrr: (ranks, grades, k) => { const first = firstRank(ranks); return first && first <= k ? 1 / first : 0; },
  map: (ranks, grades, k) => {
    const seen = ranks.filter((rank) => rank > 0 && rank <= k).sort((a, b) => a - b);
    return seen.reduce((sum, rank, index) => sum + (index + 1) / rank, 0) / grades.length;
  },
};

// Rank of the first relevant document; 0 if none is in the ranking.
function firstRank(ranks) {
  return ranks.reduce((best, rank) => (rank > 0 && (best === 0 || rank < best) ? rank : best), 0);
}

// A measure of each query. `key` names the ranking, whose ranks they are.
function perQuery(key, ranks, kind, k) {
  const name = `${key} ${kind}@${k}`;
  if (!computed.has(name)) {
    computed.set(name, Float64Array.from(ranks, (row, query) => MEASURES[kind](row, QUERIES.grades[query], k)));
  }
  return computed.get(name);
}

function mean(values, rows) {
  let sum = 0;
  for (const row of rows) sum += values[row];
  return sum / rows.length;
}

// The queries that all filters let through.
function chosenRows() {
  const rows = [];
  for (let row = 0; row < QUERIES.ids.length; row++) {
    if (chosen.facts.every((value, fact) => value < 0 || QUERIES.facts[fact].of[row] === value)) rows.push(row);
  }
  return rows;
}

// Which part of the queries is chosen, as Python names it: "" for all, null if several facts are chosen.
function chosenPart() {
  const facts = chosen.facts.flatMap((value, fact) => (value < 0 ? [] : [`${fact}:${value}`]));
  return facts.length > 1 ? null : (facts[0] ?? "");
}

// Bootstrap intervals of several means over the same queries; equal queries give equal intervals.
function bootstrap(columns, rows) {
  let state = 20250623;
  const next = () => {  // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const n = rows.length;
  const taken = columns.map((values) => Float64Array.from(rows, (row) => values[row]));
  const means = columns.map(() => new Float64Array(RESAMPLES));
  const drawn = new Int32Array(n);
  for (let sample = 0; sample < RESAMPLES; sample++) {
    for (let index = 0; index < n; index++) drawn[index] = Math.floor(next() * n);
    taken.forEach((values, column) => {
      let sum = 0;
      for (let index = 0; index < n; index++) sum += values[drawn[index]];
      means[column][sample] = sum / n;
    });
  }
  return means.map((values) => {
    const sorted = values.sort();
    return [sorted[Math.floor(0.025 * (RESAMPLES - 1))], sorted[Math.ceil(0.975 * (RESAMPLES - 1))]];
  });
}

// The controls that choose queries and k; `draw` is called after each change.
function drawFilters(draw) {
  const facts = QUERIES.facts.map((fact, index) => {
    const counts = fact.values.map(() => 0);
    for (const value of fact.of) counts[value]++;
    const options = fact.values.map((value, position) => [position, `${value} (${counts[position]})`]);
    return select(fact.name, [[-1, "all"], ...options], -1, (value) => { chosen.facts[index] = Number(value); draw(); });
  });
  const ks = select("k", DATA.ks.map((k) => [k, String(k)]), chosen.k, (value) => { chosen.k = Number(value); draw(); });
  replace("filters", ...facts, ks, element("output", { id: "count", "aria-live": "polite" }));
}

function drawCount(rows) {
  replace("count", `${whole(rows.length)} of ${whole(QUERIES.ids.length)} queries`);
}

function factsOf(query) {
  return QUERIES.facts.map((fact) => `${fact.name} ${fact.values[fact.of[query]]}`);
}
