// DATA: {items: [{status, reason, title, note, facts: {…}, documents: [number]}], documents: [{image, text, facts, id}]}
const PER_PAGE = 20;
const FILTERS = ["status", "kind", "language", "origin", "reason"];
let page = 0;

function node(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// What was left out has the kind and language of its document.
function valueOf(item, name) {
  const document = item.status === "left out" ? DATA.documents[item.documents[0]] : undefined;
  return item[name] ?? item.facts[name] ?? document?.facts[name] ?? "";
}

function searched(item) {
  const texts = item.documents.flatMap((number) => [DATA.documents[number].id, DATA.documents[number].text]);
  return [item.title, item.note, item.reason ?? "", ...Object.values(item.facts), ...texts].join("\n").toLowerCase();
}

const text = node("input", { type: "search", id: "text", placeholder: "words of the query or its documents" });
text.setAttribute("aria-label", "search");
const selects = FILTERS.map((name) => {
  const values = [...new Set(DATA.items.map((item) => valueOf(item, name)))].filter((value) => value !== "").sort();
  const select = node("select", { id: name, hidden: !values.length }, node("option", { value: "" }, `any ${name}`));
  select.setAttribute("aria-label", name);
  select.append(...values.map((value) => node("option", { value }, value)));
  return select;
});
const index = DATA.items.map(searched);

function chosen() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  return DATA.items.filter((item, number) =>
    selects.every((select) => !select.value || valueOf(item, select.id) === select.value) &&
    words.every((word) => index[number].includes(word)));
}

function facts(values) {
  return Object.entries(values).map(([name, value]) => node("span", { className: "fact" }, `${name}: ${value}`));
}

function figure(number) {
  const { id, image, text, facts: known } = DATA.documents[number];
  const caption = node("figcaption", {}, node("div", {}, id), ...facts(known));
  const shown = image ? node("img", { src: image, alt: text || id, loading: "lazy" }) : node("pre", {}, text);
  return node("figure", {}, shown, caption);
}

function card(item) {
  const heading = node("h2", { dir: "auto" }, item.title);
  const known = { status: item.status, ...(item.reason ? { reason: item.reason } : {}), ...item.facts };
  const documents = node("div", { className: "documents" }, ...item.documents.map(figure));
  const note = item.note ? [node("p", { className: "note" }, item.note)] : [];
  const made = node("article", { className: item.status === "left out" ? "item left-out" : "item" });
  made.append(heading, node("p", {}, ...facts(known)), ...note, documents);
  return made;
}

function show() {
  const items = chosen();
  const last = Math.max(0, Math.ceil(items.length / PER_PAGE) - 1);
  page = Math.min(page, last);
  const go = (label, to, disabled) => node("button", { disabled, onclick: () => { page = to; show(); scrollTo(0, 0); } }, label);
  document.getElementById("count").textContent = `${items.length} of ${DATA.items.length}`;
  document.getElementById("pages").replaceChildren(
    go("previous", page - 1, page === 0), node("span", {}, `page ${page + 1} of ${last + 1}`), go("next", page + 1, page === last));
  document.getElementById("items").replaceChildren(...items.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card));
}

for (const control of [text, ...selects]) control.addEventListener("input", () => { page = 0; show(); });
document.getElementById("filters").append(text, ...selects, node("span", { id: "count" }));
show();
