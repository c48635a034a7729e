// Elements from plain text. Texts become text nodes, so no text is ever read as HTML.

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svgElement(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Text of unknown direction, kept from turning the text around it.
function quoted(text) {
  return element("bdi", {}, text);
}

function replace(id, ...children) {
  document.getElementById(id).replaceChildren(...children.filter((child) => child !== null));
}

// Halves are rounded to the even digit, as in Python: only a value that is an odd multiple of 2 ** -(digits + 1) is one.
function decimal(value, digits = 3) {
  const size = Math.abs(value), below = Math.floor(size * 10 ** digits);
  const isHalf = (size * 2 ** (digits + 1)) % 2 === 1;
  return (value < 0 ? "-" : "") + (isHalf && below % 2 === 0 ? below / 10 ** digits : size).toFixed(digits);
}

function signed(value, digits = 4) {
  return (value < 0 ? "" : "+") + decimal(value, digits);
}

function whole(value) {
  return Math.round(value).toLocaleString("en-US");
}

// A labelled choice; `options` are pairs of a value and a text.
function select(label, options, chosen, onChange) {
  const list = element("select", { "aria-label": label, change: () => onChange(list.value) });
  for (const [value, text] of options) {
    list.append(element("option", { value, selected: String(value) === String(chosen) }, text));
  }
  return element("label", { class: "choice" }, label, list);
}

// A table whose columns sort. A column is {title, isNumber}, a cell a text or {text, value}. `order` outlives redrawing.
function sortableTable(caption, columns, rows, order = {}) {
  const body = element("tbody");
  const heads = columns.map((column, index) => {
    const button = element("button", { type: "button", click: () => sortBy(index) }, column.title);
    return element("th", { class: column.isNumber ? "number" : "", scope: "col" }, button);
  });
  function value(row) {
    const cell = row[order.column];
    return typeof cell === "string" ? cell : cell.value;
  }
  function draw() {
    const sorted = [...rows];
    if (order.column !== undefined) {
      const sign = order.isDescending ? -1 : 1;
      sorted.sort((a, b) => (value(a) === value(b) ? 0 : value(a) < value(b) ? -sign : sign));
    }
    body.replaceChildren(...sorted.map((row) => element("tr", {}, ...row.map((cell, index) =>
      element("td", { class: columns[index].isNumber ? "number" : "" }, quoted(typeof cell === "string" ? cell : cell.text))))));
    heads.forEach((head, index) => {
      if (index === order.column) head.setAttribute("aria-sort", order.isDescending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }
  function sortBy(index) {
    order.isDescending = order.column === index ? !order.isDescending : Boolean(columns[index].isNumber);
    order.column = index;
    draw();
  }
  draw();
  return element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...heads)), body);
}
