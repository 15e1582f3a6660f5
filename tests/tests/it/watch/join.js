// Leaves the stream NAME and joins it again, at a moment that has nothing to do with its key frames. The answer: `marks`, when each stage was reached in ms from the POST on,
// and `server`, how relayd sees this viewer.
const { live } = cards.get(NAME);
live.close();
return new Promise(leave => setTimeout(leave, Math.random() * 500)).then(() => new Promise((resolve, reject) => {
  live.open();
  const begun = performance.now();
  const look = setInterval(async () => {
    const { session } = live;
    if (session?.marks.frame) {
      clearInterval(look);
      const marks = Object.fromEntries(Object.entries(session.marks).map(([stage, at]) => [stage, at - session.marks.post]));
      resolve({ marks, server: await session.diagnose() });
    } else if (performance.now() - begun > 20000) {
      clearInterval(look);
      reject(new Error("no picture: " + live.words.textContent));
    }
  }, 10);
}));
