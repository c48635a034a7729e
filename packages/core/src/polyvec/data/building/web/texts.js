// Returns the text that each page shows, by the pages' [top, bottom] in pixels of CSS from the top of the document.
(pages) => {
  const pieces = pages.map(() => []); // of each page: [block element, text]
  const blocks = new Map();
  const blockOf = (element) => {
    let block = element;
    while (block.parentElement && getComputedStyle(block).display.startsWith("inline")) block = block.parentElement;
    return block;
  };
  const pageAt = (rectangle) => {
    const middle = (rectangle.top + rectangle.bottom) / 2 + scrollY;
    const isSeen = rectangle.width > 0 && rectangle.height > 0 && rectangle.right > 0 && rectangle.left < innerWidth;
    return isSeen ? pages.findIndex(([top, bottom]) => top <= middle && middle < bottom) : -1;
  };
  const range = document.createRange();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const parent = text.parentElement;
    const isSeen = parent.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    if (!text.data.trim() || !isSeen) continue;
    const outer = parent.getBoundingClientRect();
    if (getComputedStyle(parent).overflow !== "visible" && outer.width <= 1) continue; // for screen readers only
    if (!blocks.has(parent)) blocks.set(parent, blockOf(parent));
    const block = blocks.get(parent);
    range.selectNodeContents(text);
    const found = new Set(Array.from(range.getClientRects(), pageAt));
    if (found.size === 1) {
      const [page] = found;
      if (page >= 0) pieces[page].push([block, text.data]);
      continue;
    }
    for (const word of text.data.matchAll(/\s*\S{1,40}\s*/g)) {
      range.setStart(text, word.index + word[0].search(/\S/));
      range.setEnd(text, word.index + word[0].trimEnd().length);
      const page = pageAt(range.getBoundingClientRect());
      if (page >= 0) pieces[page].push([block, word[0]]);
    }
  }
  return pieces.map((found) => {
    let text = "";
    let last = null;
    for (const [block, piece] of found) {
      text += (last !== null && last !== block ? "\n" : "") + piece;
      last = block;
    }
    return text;
  });
}
