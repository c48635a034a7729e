// Returns those of some characters for which the browser has no font, so that it draws a box.
(characters) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.font = "24px sans-serif";
  const drawn = (character) => {
    context.clearRect(0, 0, 64, 48);
    context.fillText(character, 4, 32);
    return new Uint32Array(context.getImageData(0, 0, 64, 48).data.buffer);
  };
  const box = drawn("\u0378"); // Unicode has no such character
  return characters.filter((character) => {
    const pixels = drawn(character);
    return box.every((pixel, index) => pixel === pixels[index]);
  });
}
