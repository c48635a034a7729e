// Makes a page ready to be cut into pages, and tells what must stay in one piece.
//
// Returns the headings ([text, top]), and the boxes of lines, images and table rows ([top, bottom, isHeading]). All numbers are pixels of CSS from the top of the document.
(height) => {
  document.documentElement.style.paddingBottom = `${height}px`; // so that each page can be scrolled to the top
  for (const element of [document.documentElement, document.body]) {
    element.style.setProperty("height", "auto", "important");
    element.style.setProperty("overflow", "visible", "important");
  }
  for (const element of document.querySelectorAll("body *")) {
    const position = getComputedStyle(element).position;
    if (position === "fixed") element.style.setProperty("position", "absolute", "important");
    if (position === "sticky") element.style.setProperty("position", "static", "important");
  }
  for (const image of document.querySelectorAll("img")) {
    if (!image.complete || image.naturalWidth === 0) image.style.setProperty("display", "none", "important");
  }
  const boxes = [];
  const add = (rectangle, isHeading) => {
    const isSeen = rectangle.width > 0 && rectangle.height > 0 && rectangle.right > 0 && rectangle.left < innerWidth;
    if (isSeen) boxes.push([rectangle.top + scrollY, rectangle.bottom + scrollY, isHeading]);
  };
  const heading = "h1, h2, h3, h4, h5, h6";
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (!text.data.trim() || !text.parentElement.checkVisibility({ visibilityProperty: true })) continue;
    range.selectNodeContents(text);
    for (const rectangle of range.getClientRects()) add(rectangle, text.parentElement.closest(heading) !== null);
  }
  for (const element of document.querySelectorAll("img, svg, canvas, video, figure, tr, hr, math")) {
    if (element.checkVisibility({ visibilityProperty: true })) add(element.getBoundingClientRect(), false);
  }
  const headings = [];
  for (const element of document.querySelectorAll(heading)) {
    const rectangle = element.getBoundingClientRect();
    const isSeen = rectangle.height > 0 && element.checkVisibility({ visibilityProperty: true });
    if (isSeen) headings.push([element.innerText, rectangle.top + scrollY]);
  }
  return { headings, boxes };
}
