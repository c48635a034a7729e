// Maps of images and texts on a canvas, with pictures on hover; and the histogram along the gap.

const MARGIN = 14, REACH = 12, LISTED = 8;
const KINDS = ["image", "text"];
const maps = [];
let wanted = "";

function itemOf(point) {
  const [kind, id, text, image] = DATA.items[point[0]];
  return { kind, id, text, picture: DATA.pictures[image] };
}

function isHit(point) {
  const { id, text } = itemOf(point);
  return `${id} ${text}`.toLowerCase().includes(wanted);
}

// A map of one panel: places are recomputed when the canvas changes its size.
function drawnMap(panel) {
  const canvas = element("canvas", { role: "img", "aria-label": `map of ${panel.name}: images and texts on two principal components` });
  const tip = element("div", { class: "tip", hidden: true, role: "status" });
  const hits = element("div", { class: "legend" });
  const box = element("div", { class: "map" }, canvas, tip);
  const range = (axis) => {
    const values = panel.points.map((point) => point[axis]);
    return [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
  };
  const [left, right] = range(1), [bottom, top] = range(2);
  const scale = Math.max(right - left, top - bottom) || 1;
  let marked = null;

  function place(point) {  // one scale for both axes: distances can be compared
    const size = Math.min(canvas.clientWidth, canvas.clientHeight) - 2 * MARGIN;
    return [canvas.clientWidth / 2 + ((point[1] - (left + right) / 2) / scale) * size,
      canvas.clientHeight / 2 - ((point[2] - (bottom + top) / 2) / scale) * size];
  }

  function draw() {
    const density = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * density;
    canvas.height = canvas.clientHeight * density;
    const pen = canvas.getContext("2d");
    pen.scale(density, density);
    const style = getComputedStyle(document.documentElement);
    const colors = { image: style.getPropertyValue("--c0"), text: style.getPropertyValue("--c1") };
    const radius = panel.points.length > 4000 ? 1.5 : 3;
    for (const hit of wanted ? [false, true] : [true]) {
      for (const point of panel.points) {
        if (wanted && isHit(point) !== hit) continue;
        const [x, y] = place(point), { kind } = itemOf(point);
        pen.fillStyle = colors[kind];
        pen.globalAlpha = hit ? 0.7 : 0.08;
        pen.beginPath();
        if (kind === "image") pen.arc(x, y, radius, 0, 7); else pen.rect(x - radius, y - radius, 2 * radius, 2 * radius);
        pen.fill();
      }
    }
    if (marked) {
      const [x, y] = place(marked);
      pen.globalAlpha = 1;
      pen.strokeStyle = style.getPropertyValue("--accent");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, radius + 4, 0, 7);
      pen.stroke();
    }
  }

  function mark(point) {
    if (point === marked) return;
    marked = point;
    tip.hidden = point === null;
    if (point !== null) {
      const { kind, id, text, picture } = itemOf(point), [x, y] = place(point);
      tip.replaceChildren(...(picture ? [element("img", { src: picture, alt: "" })] : []),
        element("div", {}, quoted(text)), element("div", { class: "note" }, `${kind} `, quoted(id), `; best score ${decimal(point[3])}`));
      tip.style.left = `${Math.max(0, Math.min(x + 12, canvas.clientWidth - 240))}px`;
      tip.style.top = `${y + 12}px`;
    }
    draw();
  }

  function nearest(event) {
    let best = null, least = REACH ** 2;
    for (const point of panel.points) {
      if (wanted && !isHit(point)) continue;
      const [x, y] = place(point), distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  function listHits() {
    const found = wanted ? panel.points.filter(isHit) : [];
    const buttons = found.slice(0, LISTED).map((point) => {
      const { kind, id } = itemOf(point);
      const show = () => mark(point);
      return element("button", { type: "button", click: show, focus: show }, `${kind} `, quoted(id));
    });
    hits.replaceChildren(...(wanted ? [element("span", {}, `${whole(found.length)} found`), ...buttons] : []));
  }

  canvas.style.aspectRatio = "4 / 3";
  canvas.addEventListener("pointermove", (event) => mark(nearest(event)));
  canvas.addEventListener("pointerdown", (event) => mark(nearest(event)));
  canvas.addEventListener("pointerleave", () => mark(null));
  const share = panel.explained.map((value) => `${Math.round(100 * value)} %`).join(" and ");
  const names = KINDS.map((kind, index) => `${kind}s, n = ${whole(panel.n[index])}`);
  const figure = chart(panel.name, box, names, (index) => (index === 0 ? dotMark(0) : boxMark(1)), `The axes have ${share} of the variance.`);
  const { edges, shares } = panel.gap;
  const gap = barChart(`Along the gap: ${panel.name}`, { label: "coordinate along mean(images) − mean(texts)", low: edges[0], high: edges.at(-1) },
    edges, names.map((name, index) => ({ name, values: shares[index] })), "Share of the items per bin.");
  figure.append(hits);
  return { node: element("div", {}, figure, gap), draw, search: () => { mark(null); draw(); listHits(); } };
}

maps.push(...DATA.panels.map(drawnMap));
replace("maps", ...maps.map(({ node }) => node));
const field = element("input", { type: "search", "aria-label": "search texts and ids", input: () => {
  wanted = field.value.trim().toLowerCase();
  maps.forEach((map) => map.search());
} });
replace("search", element("label", {}, "search texts and ids", field));
const redraw = () => maps.forEach((map) => map.draw());
redraw();
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
