// Single queries with the documents that were found first and those that are right, as pictures or texts.

// A card: the text of a query, what is known of it, lines about its results, and documents as [role, position].
function queryCard(query, lines, documents) {
  const maps = documents.map(([, position]) => DATA.maps?.[`${query} ${position}`]).filter(Boolean);
  const tokens = maps.find((map) => map.tokens.length)?.tokens ?? [];
  const figures = documents.map(([role, position]) => documentFigure(query, role, position));
  const showMap = (index) => figures.forEach((figure) => figure.show?.(Number(index)));
  const options = [[0, "of all tokens"], ...tokens.map((token, index) => [index + 1, token.trim() || JSON.stringify(token)])];
  const choice = maps.length ? select("similarity map", [...options, [-1, "none"]], 0, showMap) : null;
  showMap(0);
  const known = [`query ${QUERIES.ids[query]}`, ...factsOf(query)].map((fact) => element("span", {}, quoted(fact), "; "));
  return element("article", { class: "card" },
    element("h3", {}, quoted(QUERIES.texts[query] || "(no text)")),
    element("p", { class: "note" }, ...known, lines.join("; ")), choice,
    element("div", { class: "pages" }, ...figures.map(({ node }) => node)));
}

function documentFigure(query, role, position) {
  const shown = DATA.shown[position];
  const caption = element("figcaption", {}, `${role}: `, quoted(DATA.documents[position]));
  if (shown?.picture === undefined) {
    const text = shown?.text !== undefined ? element("div", { class: "excerpt" }, quoted(shown.text || "(no text)")) : null;
    const why = shown?.problem ?? (DATA.hasPictures ? "only the worst queries of each search have pictures" : "");
    return { node: element("figure", {}, caption, text, !text && why ? element("p", { class: "note" }, quoted(why)) : null) };
  }
  const image = element("img", { src: shown.picture, alt: `${role}: ${DATA.documents[position]}` });
  const box = element("div", { class: "picture" }, image);
  const node = element("figure", {}, caption, box);
  const map = DATA.maps?.[`${query} ${position}`];
  if (!map) return { node };
  const canvas = element("canvas", { width: map.columns, height: map.rows, "aria-hidden": "true" });
  const highest = element("p", { class: "note" });
  box.append(canvas);
  node.append(highest);
  const bytes = Uint8Array.from(atob(map.values), (letter) => letter.charCodeAt(0));
  return { node, show: (index) => drawMap(canvas, highest, map, bytes, index) };
}

// Tint the more similar half of the patches: from clear, the median, to red, the most similar one.
function drawMap(canvas, highest, map, bytes, index) {
  canvas.hidden = highest.hidden = index < 0 || index > map.tokens.length;
  if (canvas.hidden) return;
  const n = map.rows * map.columns;
  const values = bytes.subarray(index * n, (index + 1) * n);
  const sorted = Uint8Array.from(values).sort();
  const low = sorted[n >> 1], high = sorted[n - 1];
  const picture = new ImageData(map.columns, map.rows);
  values.forEach((value, patch) => {
    const share = value > low ? (value - low) / (high - low) : 0;
    picture.data.set([220, 20, 20, 190 * share], 4 * patch);
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  highest.textContent = `highest similarity ${decimal(map.low + (high / 255) * (map.high - map.low), 2)}`;
}

// The relevant documents of a query as [role, position], with their ranks in a ranking.
function rightDocuments(query, ranks) {
  return QUERIES.relevant[query].slice(0, DATA.mostRight).map((position, index) => {
    const grade = QUERIES.grades[query][index];
    return [`right${grade > 1 ? ` (grade ${grade})` : ""}, ${rankText(ranks[index])}`, position];
  });
}

function rankText(rank) {
  return rank ? `rank ${rank}` : `not among the first ${DATA.depth}`;
}
