// The live view: a stream's picture over WHEP (draft-ietf-wish-whep-03), which goes on by itself whatever happens.
//
// `Session` is one WHEP session, from its POST to its DELETE. `Live` is what a card shows: it opens sessions one after
// the other, keeps the last picture in between, and says in words what is wrong. `el`, `set`, `show` and `bits` are the
// page's.
"use strict";

// How long to wait for what, in milliseconds.
const WAIT = {
  answer: 10000,       // for an answer over HTTP
  diagnosis: 3000,     // the same where the picture waits for it
  connect: 11000,      // for ICE and DTLS; relayd gives up after 10 s and then knows why
  cut: 2500,           // for a connection that is "disconnected" to come back
  still: 1500,         // without a picture before anything is said or asked
  frames: 5000,        // without a picture while the camera is said to be live
  keyFrame: 20000,     // the same while relayd has none to send: a thin link, or a camera not yet known to be away
  retryMin: 500, retryMax: 5000,
  gone: 5000,          // 404: the stream may be configured again
  unservable: 15000,   // any other refusal: the camera or the server must change first
  healthy: 10000,      // of pictures before a trouble counts as the first again
  tick: 1000, candidates: 100,
  asks: 4000, asksOdd: 1500, // between questions how relayd sees this viewer: usually, and when something is odd
};

// Chromium shows a black picture of 2 by 2 before the first; no real one is that narrow.
const REAL_PX = 16;

// Candidate pairs named where a connection failed.
const PAIRS_TOLD = 6;

// A refusal over HTTP: its status, the problem in words, and when to come back.
class Refusal extends Error {
  constructor(status, words, retryMs) { super(words); this.status = status; this.retryMs = retryMs; }

  static async of(answer) {
    let words = "relayd answers " + answer.status;
    try {
      const problem = await answer.json();
      words = problem.detail || problem.title || words;
    } catch { /* no JSON: the status must do */ }
    const seconds = Number.parseFloat(answer.headers.get("retry-after"));
    return new Refusal(answer.status, words, seconds >= 0 ? seconds * 1000 : null);
  }
}

// RFC 8288 as RFC 9725 §4.6 uses it: `<turn:host>; rel="ice-server"; username="…"; credential="…"`, comma between.
function iceServers(header) {
  const parameter = String.raw`\s*;\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))`;
  const link = new RegExp("<([^>]*)>((?:" + parameter + ")*)", "g"), servers = [];
  for (const [, urls, parameters] of (header || "").matchAll(link)) {
    const said = {};
    for (const [, name, quoted, bare] of parameters.matchAll(new RegExp(parameter, "g")))
      said[name.toLowerCase()] = quoted === undefined ? bare : quoted.replace(/\\(.)/g, "$1");
    const { rel, username, credential } = said;
    if (rel === "ice-server") servers.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}

// Chromium offers the dependency descriptor only when asked to. Without it, it drops pictures that wait for a repair
// when the next key frame overtakes them.
function ask(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  const descriptor = extensions.find(({ uri }) => uri.endsWith("#dependency-descriptor-rtp-header-extension"));
  if (!descriptor) return;
  descriptor.direction = "sendrecv";
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}

class Session {
  // `lost(cause)` is called once, when the connection is no more.
  constructor(stream, token, lost) {
    this.endpoint = new URL("whep/" + encodeURIComponent(stream), location.href);
    this.token = token; this.lost = lost;
    this.url = null; this.ended = false;
    this.marks = { post: performance.now() };
    this.fragment = []; this.last = {};
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.media = new MediaStream();
    this.pc.ontrack = ({ track, receiver }) => {
      // The first is the standard's, the second what Chromium had before: no more delay than the network needs.
      receiver.jitterBufferTarget = 0; receiver.playoutDelayHint = 0;
      this.media.addTrack(track);
    };
    this.pc.onicecandidate = ({ candidate }) => this.trickle(candidate);
    this.pc.oniceconnectionstatechange = () => {
      if (["connected", "completed"].includes(this.pc.iceConnectionState)) this.marks.ice ??= performance.now();
    };
    this.pc.onconnectionstatechange = () => this.changed();
  }

  async open() {
    for (const kind of ["video", "audio"]) ask(this.pc.addTransceiver(kind, { direction: "recvonly" }));
    const offer = await this.pc.createOffer();
    this.marks.post = performance.now();
    const headers = { "content-type": "application/sdp" };
    const answer = await this.fetch(this.endpoint, { method: "POST", body: offer.sdp, headers });
    this.marks.answer = performance.now();
    if (answer.status !== 201) throw await Refusal.of(answer);
    this.url = new URL(answer.headers.get("location"), this.endpoint);
    this.etag = answer.headers.get("etag");
    const sdp = await answer.text();
    if (this.ended) return this.leave();
    // Gathering begins with the local description: the servers that came with the answer are known by then.
    const servers = iceServers(answer.headers.get("link"));
    if (servers.length) this.pc.setConfiguration({ bundlePolicy: "max-bundle", iceServers: servers });
    await this.pc.setLocalDescription(offer);
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    this.deadline = setTimeout(() => this.lose("No connection came about within " + WAIT.connect / 1000 + " s."), WAIT.connect);
  }

  fetch(url, options, patience = WAIT.answer) {
    // A token of the stream's own goes instead of what the browser knows for the page.
    const credentials = this.token ? "omit" : "same-origin";
    const headers = { ...options.headers, ...(this.token ? { authorization: "Bearer " + this.token } : {}) };
    const stop = new AbortController(), timer = setTimeout(() => stop.abort(), patience);
    const request = { cache: "no-store", signal: stop.signal, ...options, headers, credentials };
    return fetch(url, request).finally(() => clearTimeout(timer));
  }

  changed() {
    clearTimeout(this.cut);
    switch (this.pc.connectionState) {
      case "connected": clearTimeout(this.deadline); this.marks.dtls ??= performance.now(); break;
      case "disconnected": this.cut = setTimeout(() => this.lose("The connection broke off."), WAIT.cut); break;
      case "failed": this.lose(this.marks.dtls ? "The connection broke off." : "No connection came about."); break;
    }
  }

  lose(cause) { if (!this.ended) this.lost(cause); }

  // RFC 8840 §9: in batches, as a fragment with the credentials it belongs to.
  trickle(candidate) {
    this.fragment.push(candidate ? "a=" + candidate.candidate : "a=end-of-candidates");
    if (candidate && !candidate.candidate) this.fragment.pop();
    this.sending ??= setTimeout(() => this.send(), candidate ? WAIT.candidates : 0);
  }

  async send() {
    this.sending = undefined;
    const sdp = this.pc.localDescription?.sdp, line = name => sdp.match(new RegExp("^" + name + ".*$", "m"))?.[0];
    if (this.ended || !this.url || !sdp) return;
    const lines = [line("a=ice-ufrag:"), line("a=ice-pwd:"), "m=video 9 UDP/TLS/RTP/SAVPF 0", line("a=mid:")];
    const body = [...lines, ...this.fragment.splice(0), ""].filter(line => line !== undefined).join("\r\n");
    const headers = { "content-type": "application/trickle-ice-sdpfrag", ...(this.etag ? { "if-match": this.etag } : {}) };
    // relayd learns addresses from the checks themselves: a fragment that does not arrive costs no more than a diagnosis.
    await this.fetch(this.url, { method: "PATCH", body, headers }).catch(() => {});
  }

  // How relayd sees this viewer; `null` if it knows nothing of it any more. Rejects when relayd can't be reached.
  async diagnose() {
    const answer = await this.fetch(this.url, { headers: { accept: "application/json" } }, WAIT.diagnosis);
    this.forgotten = answer.status === 404 || answer.status === 410;
    if (this.forgotten) return null;
    if (!answer.ok) throw await Refusal.of(answer);
    return answer.json();
  }

  // What the browser saw of the candidate pairs, in words.
  async pairs() {
    const stats = await this.pc.getStats();
    const name = id => {
      const { address, port, protocol, relayProtocol } = stats.get(id) || {};
      return (address || "a hidden address") + ":" + port + (relayProtocol ? " relay" : " " + protocol);
    };
    const pairs = [...stats.values()].filter(({ type }) => type === "candidate-pair").map(pair =>
      name(pair.localCandidateId) + " → " + name(pair.remoteCandidateId) + " (" + pair.state + ", "
        + (pair.requestsSent ?? 0) + " checks sent, " + (pair.responsesReceived ?? 0) + " answered)");
    return pairs.length ? "This browser tried " + pairs.slice(0, PAIRS_TOLD).join("; ") + "."
      : "This browser found no pair of addresses to try.";
  }

  leave() {
    if (this.url && !this.forgotten) this.fetch(this.url, { method: "DELETE", keepalive: true }).catch(() => {});
    this.url = null;
  }

  end() {
    if (this.ended) return;
    this.ended = true;
    for (const timer of [this.deadline, this.cut, this.sending]) clearTimeout(timer);
    this.leave();
    this.pc.close();
  }
}

// Causes come without capitals and full stops.
function sentence(words) {
  return words ? words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".") : "";
}

const SERVER_SAYS = {
  connecting: "relayd waits for this browser to connect", live: "sending", behind: "behind: your link is slower than the stream",
  waiting_for_key_frame: "waiting for a key frame: your link is too thin for this stream", closed: "closed", failed: "failed",
};
const watched = new Set();

// The address names what is watched, `#watch=front,yard`: a reloaded page, or a screen on a wall, shows it again.
const wanted = new Set(new URLSearchParams(location.hash.slice(1)).get("watch")?.split(","));
function remember() {
  const names = [...watched].map(live => live.name).join(",");
  history.replaceState(null, "", names ? "#watch=" + names : location.pathname + location.search);
}

class Live {
  constructor(name) {
    this.name = name;
    this.state = "off";       // off, asking, connecting, playing, waiting
    this.failures = 0; this.served = true; this.camera = null;
    this.button = el("button", { type: "button", class: "watch" }, "▶ Watch live");
    this.button.addEventListener("click", () => { this.open(); this.screen.focus(); });
    this.node = el("div", { class: "view" }, this.button);
    this.node.hidden = true;
  }

  // What the page's poll knows of the stream; `null` when relayd did not answer.
  update(stream) {
    const before = this.camera, servedBefore = this.served;
    this.served = stream !== null;
    if (stream) {
      const audio = stream.tracks.some(track => track.kind === "audio");
      this.camera = { state: stream.state, cause: stream.source.last_error, audio };
      const may = stream.sinks.some(sink => sink.type === "webrtc");
      show(this.node, this.state !== "off" || may);
      if (may && wanted.delete(this.name)) this.open();
    }
    if (this.state === "off" || !stream) return;
    const cameLive = this.camera.state === "live" && before?.state !== "live";
    if (cameLive) this.lively = performance.now();
    show(this.sound, this.camera.audio);
    if (this.state === "waiting" && (cameLive || !servedBefore) && !this.asksToken) this.soon(Math.random() * 200);
    else if (!servedBefore) this.ask();
  }

  open() {
    if (this.state !== "off") return;
    this.build();
    watched.add(this);
    remember();
    this.button.hidden = true;
    this.ticker = setInterval(() => this.tick(), WAIT.tick);
    this.start();
  }

  close() {
    if (this.state === "off") return;
    this.end();
    clearInterval(this.ticker);
    watched.delete(this);
    remember();
    this.state = "off"; this.failures = 0; this.server = null; this.isTroubled = false;
    this.stage.remove();
    this.button.hidden = false;
    this.button.focus();
  }

  build() {
    const press = (words, act) => {
      const node = el("button", { type: "button" }, words);
      node.addEventListener("click", act);
      return node;
    };
    this.video = el("video", { autoplay: "", playsinline: "" });
    this.video.muted = true;
    this.video.addEventListener("resize", () => {
      const { videoWidth, videoHeight } = this.video;
      if (videoWidth >= REAL_PX) this.screen.style.aspectRatio = videoWidth + " / " + videoHeight;
    });
    this.still = el("canvas");
    this.words = el("p", { role: "status" });
    this.brief = el("p", { class: "brief" });
    this.more = el("p");
    this.details = el("details", {}, el("summary", {}, "Why?"), this.more);
    this.secret = el("input", { type: "password", "aria-label": "Token of stream " + this.name, placeholder: "Token", autocomplete: "off" });
    this.form = el("form", {}, this.secret, el("button", {}, "Send"));
    this.form.addEventListener("submit", event => {
      event.preventDefault();
      this.token = this.secret.value;
      this.start();
    });
    this.numbers = el("dl", { class: "numbers" });
    this.rows = new Map();
    this.sound = press("Sound on", () => {
      this.video.muted = !this.video.muted;
      set(this.sound, this.video.muted ? "Sound on" : "Mute");
    });
    this.figures = press("Numbers", () => {
      show(this.numbers, this.numbers.hidden);
      this.figures.setAttribute("aria-pressed", String(!this.numbers.hidden));
      this.tick();
    });
    this.figures.setAttribute("aria-pressed", "false");
    const full = press("Full screen", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (this.stage.requestFullscreen) this.stage.requestFullscreen();
      else this.video.webkitEnterFullscreen?.();   // iPhones have no other
    });
    for (const node of [this.still, this.details, this.form, this.numbers]) node.hidden = true;
    this.sound.hidden = !this.camera?.audio;
    this.screen = el("div", { class: "screen", role: "group", tabindex: "-1", "aria-label": "Live picture of " + this.name },
      this.video, this.still, el("div", { class: "say" }, this.words, this.brief, this.details, this.form),
      el("div", { class: "bar" }, this.sound, this.figures, full, press("Stop", () => this.close())));
    this.stage = el("div", { class: "stage" }, this.screen, this.numbers);
    this.node.append(this.stage);
  }

  async start() {
    this.end();
    this.state = "asking"; this.server = null; this.isSent = true; this.asksToken = false;
    this.form.hidden = true;
    const session = this.session = new Session(this.name, this.token, cause => this.connectionLost(session, cause));
    // Why the last one failed stays there to be read until a picture comes.
    if (!this.isTroubled) this.say("Asking for the picture…");
    try {
      await session.open();
    } catch (error) {
      if (session === this.session) this.refused(error);
      return;
    }
    if (session !== this.session) return;
    this.state = "connecting";
    this.lively = this.asked = performance.now(); this.frames = 0;
    if (!this.isTroubled) this.say("Connecting…");
    this.video.srcObject = session.media;
    this.video.play().catch(() => { this.video.controls = this.video.paused; });
    this.expect(session);
  }

  // With the next picture on the screen, all is well.
  expect(session) {
    const seen = (_, picture) => {
      if (session !== this.session) return;
      // The element's own size may still be that of the last session.
      if ((picture?.width ?? this.video.videoWidth) < REAL_PX) return this.expect(session);
      session.marks.frame ??= performance.now();
      this.state = "playing"; this.expecting = false;
      this.playing ??= performance.now(); this.lively = performance.now();
      this.still.hidden = true; this.screen.classList.remove("old");
      this.isTroubled = false;
      this.say("");
    };
    this.expecting = true;
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(seen);
    else this.video.addEventListener("timeupdate", seen, { once: true });
  }

  // Ends the session, and keeps its last picture in front of what comes.
  end() {
    clearTimeout(this.timer);
    const { session, video, still } = this;
    this.session = undefined;
    if (!session) return;
    if (session.marks.frame && video.readyState >= 2 && video.videoWidth >= REAL_PX) {
      still.width = video.videoWidth; still.height = video.videoHeight;
      still.getContext("2d").drawImage(video, 0, 0);
      still.hidden = false; this.screen.classList.add("old");
    }
    if (this.playing && performance.now() - this.playing > WAIT.healthy) this.failures = 0;
    this.playing = undefined;
    session.end();
  }

  say(words, details = "") {
    set(this.words, words); set(this.more, details);
    show(this.details, details !== "");
  }

  soon(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), ms);
  }

  // The wait before the next try doubles, half of it by chance, so that many viewers don't come back at once.
  backoff() {
    const most = Math.min(WAIT.retryMin * 2 ** this.failures++, WAIT.retryMax);
    return most / 2 + Math.random() * most / 2;
  }

  waitAfter(words, details, ms) {
    this.end();
    this.state = "waiting";
    this.isTroubled = true;
    this.say(words, details);
    if (ms !== null) this.soon(ms);
  }

  // The POST failed.
  refused(error) {
    const { status, message, retryMs } = error;
    if (status === undefined) {
      const isUnsent = error.name === "AbortError" || error instanceof TypeError;
      this.waitAfter(isUnsent ? "relayd does not answer. Trying again." : "This browser can't play it: " + message, "", this.backoff());
    } else if (status === 409) {
      this.waitAfter("The camera is not live. The picture comes by itself.", sentence(message), retryMs ?? this.backoff());
    } else if (status === 401 || status === 403) {
      this.asksToken = true;
      this.form.hidden = false;
      this.waitAfter("This stream asks for a token.", sentence(message), null);
    } else if (status === 429 || status >= 500) {
      this.waitAfter(sentence(message) + " Trying again.", "", retryMs ?? this.backoff());
    } else {
      this.waitAfter("Can't be watched: " + sentence(message), "", status === 404 ? WAIT.gone : WAIT.unservable);
    }
  }

  // The connection failed or broke: what relayd knows and what the browser saw say why.
  async connectionLost(session, cause) {
    if (session !== this.session || this.state === "diagnosing") return;
    const connected = session.marks.dtls !== undefined;
    this.state = "diagnosing";
    const asked = session.forgotten ? null : session.diagnose().catch(() => undefined);
    const seen = connected ? "" : session.pairs().catch(() => "");
    const [server, pairs] = await Promise.all([asked, seen]);
    if (session !== this.session) return;
    const theirs = server ? sentence(server.cause) : server === null ? "relayd knows nothing of this session any more."
      : "relayd does not answer.";
    // Whoever never connected wants to know why at once; who did wants the picture back.
    const isTold = !connected && server && theirs, join = (...words) => words.filter(Boolean).join(" ");
    this.waitAfter(join(isTold || cause, "Trying again."), join(!isTold && theirs, pairs), this.backoff());
  }

  // Asks relayd how it sees this viewer: at once when something is odd, else now and then.
  async ask() {
    const session = this.session;
    if (!session?.url || this.asking) return;
    this.asking = true; this.asked = performance.now();
    try {
      const server = await session.diagnose();
      if (session !== this.session || this.state === "diagnosing") return;
      this.isSent = server === null || server.packets_out > (this.server?.packets_out ?? -1);
      this.server = server;
      if (server === null || ["closed", "failed"].includes(server.state))
        this.connectionLost(session, server === null ? "relayd was restarted." : "relayd ended the session.");
    } catch {
      // The poll of the page sees that too, and says so.
    } finally { this.asking = false; }
  }

  async tick() {
    const session = this.session;
    if (!session || session.ended || !["connecting", "playing"].includes(this.state)) return;
    this.sample(session);
    const now = performance.now(), seen = figures(await session.pc.getStats(), session);
    if (session !== this.session) return;
    if (seen.frames > this.frames) { this.frames = seen.frames; this.lively = now; }
    const quiet = now - this.lively, shown = !this.numbers.hidden;
    if (now - this.asked > (quiet > WAIT.still || shown ? WAIT.asksOdd : WAIT.asks)) this.ask();
    if (session.marks.dtls !== undefined && quiet > WAIT.still) this.quiet(session, quiet);
    this.tell(seen, session);
  }

  // How long the next picture takes from its last packet to the screen: what getStats knows ends with the decoder.
  sample(session) {
    this.video.requestVideoFrameCallback?.((_, { receiveTime, expectedDisplayTime }) => {
      const screen = expectedDisplayTime - receiveTime;
      if (screen >= 0) session.screen = session.screen === undefined ? screen : (session.screen + screen) / 2;
    });
  }

  // Connected, and no picture comes: says why, and starts anew if there is no good reason.
  quiet(session, quiet) {
    const isThin = ["waiting_for_key_frame", "behind"].includes(this.server?.state);
    if (!this.expecting) { this.screen.classList.add("old"); this.expect(session); }
    if (!this.served) this.say("relayd does not answer. Trying again.");
    else if (this.camera && this.camera.state !== "live") {
      this.lively = Math.max(this.lively, performance.now() - WAIT.frames + WAIT.tick);
      this.say("The camera is away. The picture goes on by itself.", sentence(this.camera.cause));
    } else if (isThin) this.say("Waiting for a key frame: your link is too thin for this stream.");
    else this.say("No picture comes.");
    if (this.served && quiet > (isThin || !this.isSent ? WAIT.keyFrame : WAIT.frames) && this.camera?.state === "live")
      this.connectionLost(session, "No picture came for " + Math.round(quiet / 1000) + " s.");
  }

  // The overlay: one line over the picture, and on demand all there is to know below it.
  tell(seen, session) {
    const { server } = this, told = numbers(seen, server, session.marks);
    const isFine = this.state === "playing" && this.words.textContent === "";
    set(this.brief, isFine ? ["live", told.brief].join(" · ") : "");
    if (this.numbers.hidden) return;
    const state = this.state + (server ? "; relayd: " + (SERVER_SAYS[server.state] || server.state) : "");
    for (const [name, value] of [["State", state], ...told.rows]) {
      if (!this.rows.has(name)) {
        this.rows.set(name, el("dd"));
        this.numbers.append(el("dt", {}, name), this.rows.get(name));
      }
      set(this.rows.get(name), value);
    }
  }
}

// From getStats: totals, and what happened since the last look (rates in bit/s, times in ms).
function figures(stats, session) {
  const all = [...stats.values()], inbound = all.filter(({ type }) => type === "inbound-rtp"), { last } = session;
  const video = inbound.find(({ kind }) => kind === "video") || {};
  const chosen = all.find(({ type }) => type === "transport")?.selectedCandidatePairId;
  const pair = stats.get(chosen) || all.find(({ type, nominated, state }) => type === "candidate-pair" && nominated && state === "succeeded");
  const local = stats.get(pair?.localCandidateId), remote = stats.get(pair?.remoteCandidateId);
  const seconds = (video.timestamp - last.timestamp) / 1000;
  if (!(seconds < WAIT.tick / 2000)) {
    const bytes = inbound.reduce((sum, { bytesReceived }) => sum + bytesReceived, 0);
    const decoded = video.framesDecoded - last.framesDecoded;
    session.bps = seconds > 0 ? (bytes - session.bytes) * 8 / seconds : undefined;
    // From a picture's first packet to its decoding: assembly, jitter buffer and decoder.
    session.delay = decoded > 0 ? (video.totalProcessingDelay - last.totalProcessingDelay) / decoded * 1000 : undefined;
    session.last = video;
    session.bytes = bytes;
  }
  const relay = [local, remote].some(candidate => candidate?.candidateType === "relay");
  return {
    frames: video.framesDecoded ?? 0, dropped: video.framesDropped ?? 0, fps: video.framesPerSecond ?? 0,
    freezes: video.freezeCount ?? 0, frozen: video.totalFreezesDuration ?? 0,
    size: video.frameWidth ? video.frameWidth + "×" + video.frameHeight : "no picture yet",
    lost: video.packetsLost ?? 0, packets: video.packetsReceived ?? 0, bps: session.bps,
    delay: session.screen ?? session.delay,
    rtt: pair?.currentRoundTripTime === undefined ? undefined : pair.currentRoundTripTime * 1000,
    transport: !local ? "–" : relay ? "relay (" + (local.relayProtocol || local.protocol) + ")" : local.protocol.toUpperCase(),
  };
}

// What the overlay tells, in words. The latency is what relayd and the way from it add; the camera's own is not known.
function numbers(seen, server, marks) {
  const ms = value => Math.round(value) + " ms", after = name => marks[name] === undefined ? "–" : ms(marks[name] - marks.post);
  const parts = Object.entries({ relayd: server?.lag_ms, network: seen.rtt / 2, browser: seen.delay }).filter(([, part]) => part >= 0);
  const behind = parts.length ? "~" + ms(parts.reduce((sum, [, part]) => sum + part, 0)) : "–";
  const rate = seen.bps === undefined ? "–" : bits(seen.bps).join(" ");
  const dropped = Object.entries(server?.packets_dropped || {}).filter(([, count]) => count > 0);
  const rows = [
    ["Behind relayd's input", behind + (parts.length ? " (" + parts.map(([name, part]) => name + " " + Math.round(part)).join(" + ") + ")" : "")],
    ["Bit rate", rate + (server?.estimate_bps ? ", room for " + bits(server.estimate_bps).join(" ") : "")],
    ["Picture", seen.size + ", " + seen.fps + " frames/s"],
    ["Packets lost", seen.lost + " of " + (seen.packets + Math.max(0, seen.lost))],
    ["Frames", seen.frames + ", dropped " + seen.dropped + ", frozen " + seen.freezes + "×, " + seen.frozen.toFixed(1) + " s"],
    ["Left out by relayd", dropped.map(([reason, count]) => reason.replaceAll("_", " ") + " " + count).join(", ") || "nothing"],
    ["Transport", seen.transport + (seen.rtt === undefined ? "" : ", round trip " + seen.rtt.toFixed(seen.rtt < 10 ? 1 : 0) + " ms")],
    ["First picture", "after " + after("frame") + " (answer " + after("answer") + ", ICE " + after("ice") + ", DTLS " + after("dtls") + ")"],
  ];
  return { brief: [behind + " behind", rate, seen.lost + " lost", seen.size].join(" · "), rows };
}

// A page that is left says so, and one that comes back from the browser's cache goes on.
addEventListener("pagehide", () => { for (const live of watched) live.end(); });
addEventListener("pageshow", event => { if (event.persisted) for (const live of watched) live.start(); });
