// Leaves the stream NAME and joins it again. The answer: `marks`, when each stage was reached in ms from the POST on,
// and `server`, how relayd sees this viewer.
const { live } = cards.get(NAME);
return new Promise((resolve, reject) => {
  live.close();
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
});
