// Reads the counter out of every picture that the live views show: the strip of relay-encode's pattern/strip.rs.
// `shown[stream]` lists them: `counter` (null where none is read), `at` (when it was handed over for showing, in ms
// since 1970), `width`, and the brightness of the cells where no counter is read.
(() => {
  const COLUMNS = 22, ROWS = 2, CELL = 10, LEFT = 0.05, TOP = 0.90, WIDTH = 0.90, HEIGHT = 0.07, DARK = 90, LIGHT = 160;
  globalThis.shown = {};

  function cells(pixels) {
    return Array.from({ length: COLUMNS * ROWS }, (_, cell) => {
      const x = (cell % COLUMNS + 0.5) * CELL | 0, y = (Math.floor(cell / COLUMNS) + 0.5) * CELL | 0;
      return pixels[(y * COLUMNS * CELL + x) * 4 + 1];
    });
  }

  function counter(cells) {
    if (cells.some(luma => luma > DARK && luma < LIGHT)) return null;
    const bits = cells.map(luma => luma >= LIGHT ? 1 : 0);
    if (String(bits.slice(0, 2)) !== "1,0" || String(bits.slice(42)) !== "1,0") return null;
    const number = from => bits.slice(from, from + 8).reduce((sum, bit) => sum * 2 + bit, 0);
    const bytes = [2, 10, 18, 26].map(number);
    let crc = 0xff;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? (crc << 1 ^ 0x07) & 0xff : crc << 1;
    }
    return crc === number(34) ? bytes.reduce((sum, byte) => sum * 256 + byte, 0) : null;
  }

  globalThis.readStrips = stream => {
    const { video, still } = cards.get(stream).live, list = shown[stream] = [];
    const canvas = new OffscreenCanvas(COLUMNS * CELL, ROWS * CELL);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const read = (now, frame) => {
      video.requestVideoFrameCallback(read);
      // Chromium ends a track with a black picture of its own: nobody sees it while the last real one is kept in front.
      if (frame.rtpTimestamp === undefined && !still.hidden) return;
      const { videoWidth: w, videoHeight: h } = video;
      context.drawImage(video, w * LEFT, h * TOP, w * WIDTH, h * HEIGHT, 0, 0, canvas.width, canvas.height);
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      const seen = cells(data), number = counter(seen), at = performance.timeOrigin + frame.presentationTime;
      list.push({ counter: number, at, width: frame.width, cells: number === null ? seen : undefined });
    };
    video.requestVideoFrameCallback(read);
  };
})();
