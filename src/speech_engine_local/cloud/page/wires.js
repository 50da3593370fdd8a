// Both wires of a conversation on one time line: what this page sends and receives, as it sees it,
// and what goes between the cloud and the agent, as the cloud tells.

import { $, make, onceAFrame, tell } from "/dom.js";

const MAX_LINES = 3000;

/** The list of frames, its filters, and the file that it can be saved to. */
export class WireView {
  #lines = []; // sorted by t
  #dropped = 0;
  #sequence = 0;
  #offset = 0; // the cloud's clock less this page's
  #aligned = false;
  #sent = []; // when this page sent its frames, by its own clock
  #name = "";
  #rows = new Map();
  #render = onceAFrame(() => this.#show());

  constructor() {
    for (const id of ["show-client", "show-agent", "fold-pings", "fold-streams"]) {
      $(id).addEventListener("change", this.#render);
    }
    $("wires-find").addEventListener("input", this.#render);
    $("save-wires").addEventListener("click", () => this.#save());
  }

  /** Begin with an empty time line. */
  clear() {
    this.#lines = [];
    this.#dropped = 0;
    this.#offset = 0;
    this.#aligned = false;
    this.#sent = [];
    tell($("wires-problem"), "");
    this.#render();
  }

  /** Take a frame that this page sent or received, `ms` after its socket opened. */
  own(dir, frame, ms) {
    const own = ms / 1000;
    const seen = { t: own + this.#offset, link: "client", frame: short(frame) };
    this.#add({ ...seen, dir: dir === "out" ? "in" : "out", own });
    if (dir === "out") this.#sent.push(own);
  }

  /** Take the lines that the cloud tells; they end with the conversation. */
  async follow(conversationId, lines) {
    this.#name = conversationId;
    let taken = 0;
    try {
      for await (const line of lines) {
        if (line.link === "agent") this.#add(line);
        else if (line.dir === "in") this.#align(line.t - this.#sent[taken++]);
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      tell($("wires-problem"), `The agent's wire cannot be seen: ${error.message}`);
    }
  }

  /**
   * Bring the two clocks together. The cloud takes a frame after this page sent it, so each frame
   * tells an offset that is too large by its time on the way: the smallest is the best.
   */
  #align(offset) {
    if (Number.isNaN(offset) || (this.#aligned && offset >= this.#offset)) return;
    this.#aligned = true;
    this.#offset = offset;
    for (const line of this.#lines) {
      if (line.link === "client") line.t = Math.max(0, line.own + offset);
    }
    this.#lines.sort((a, b) => a.t - b.t || a.key - b.key);
    this.#render();
  }

  #add({ t, link, dir, frame, own }) {
    const line = { t, link, dir, frame, own, key: this.#sequence++, ...read(frame, link) };
    let at = this.#lines.length;
    while (at > 0 && this.#lines[at - 1].t > line.t) at--;
    this.#lines.splice(at, 0, line);
    if (this.#lines.length > MAX_LINES) {
      this.#lines.shift();
      this.#dropped++;
    }
    this.#render();
  }

  #show() {
    const list = $("wires");
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const groups = this.#folded(this.#wanted());
    const kept = new Set(groups.map((group) => group.key));
    for (const [key, row] of this.#rows) {
      if (kept.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    groups.forEach((group, index) => {
      let row = this.#rows.get(group.key);
      if (!row) this.#rows.set(group.key, (row = new Row()));
      row.update(group.lines);
      if (list.children[index] !== row.element) list.insertBefore(row.element, list.children[index]);
    });
    if (atEnd) list.scrollTop = list.scrollHeight;
    this.#count(groups);
  }

  #count(groups) {
    const all = this.#lines.length;
    const shown = groups.reduce((sum, group) => sum + group.lines.length, 0);
    const older = this.#dropped ? `, ${this.#dropped} older ones dropped` : "";
    const frames = shown === all ? `${all} frames` : `${shown} of ${all} frames`;
    $("wires-count").textContent = all ? frames + older : "";
    $("wires-empty").hidden = all > 0;
    $("save-wires").disabled = all === 0;
  }

  #wanted() {
    const wanted = { client: $("show-client").checked, agent: $("show-agent").checked };
    const text = $("wires-find").value.trim().toLowerCase();
    return this.#lines.filter(
      (line) => wanted[line.link] && (!text || line.frame.toLowerCase().includes(text)));
  }

  /** Join runs: pings, and the pieces and sounds of a reply, until something else happens. */
  #folded(lines) {
    const folds = { ping: $("fold-pings").checked, stream: $("fold-streams").checked };
    const groups = [];
    const open = new Map();
    for (const line of lines) {
      const run = folds[line.kind] && `${line.link} ${line.kind === "ping" || line.type}`;
      if (run && open.has(run)) {
        open.get(run).lines.push(line);
        continue;
      }
      if (!run) open.clear();
      const group = { key: line.key, lines: [line] };
      if (run) open.set(run, group);
      groups.push(group);
    }
    return groups;
  }

  #save() {
    const lines = this.#lines.map(({ t, link, dir, frame }) =>
      JSON.stringify({ t: Number(t.toFixed(4)), link, dir, frame }));
    const file = new Blob([`${lines.join("\n")}\n`], { type: "application/x-ndjson" });
    const url = URL.createObjectURL(file);
    make("a", { href: url, download: `${this.#name || "conversation"}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

/** One row: a frame, or a run of frames, that opens. */
class Row {
  #shown = 0;
  #lines = [];
  #time = make("time");
  #way = make("span", { className: "way" });
  #type = make("b");
  #gist = make("span", { className: "gist" });
  #body = make("div", { className: "body" });
  #details;

  constructor() {
    const card = make("span", { className: "card" }, this.#way, this.#type, " ", this.#gist);
    const summary = make("summary", {}, this.#time, card);
    this.#details = make("details", {}, summary, this.#body);
    this.#details.addEventListener("toggle", () => this.#fill());
    this.element = make("li", {}, this.#details);
  }

  update(lines) {
    const [first] = lines;
    const time = first.t.toFixed(3);
    if (this.#lines.length === lines.length && this.#time.textContent === time) return;
    this.#lines = lines;
    const ways = new Set(lines.map((line) => line.dir));
    this.element.className = `${first.link} ${first.kind}`;
    this.#time.textContent = time;
    this.#way.replaceChildren(...way(first.link, ways.size > 1 ? "both" : first.dir));
    const times = lines.length > 1 ? ` × ${lines.length}` : "";
    this.#type.textContent = (first.kind === "ping" && times ? "ping, pong" : first.type) + times;
    this.#gist.textContent = gistOf(lines);
    this.#fill();
  }

  #fill() {
    if (!this.#details.open || this.#shown === this.#lines.length) return;
    if (this.#lines.length === 1) {
      this.#body.replaceChildren(make("pre", { tabIndex: 0 }, ...pretty(this.#lines[0].frame)));
    } else {
      this.#body.replaceChildren(make("ol", {}, ...this.#lines.map(oneOfMany)));
    }
    this.#shown = this.#lines.length;
  }
}

function oneOfMany(line) {
  const head = make("span", { className: "way" }, ...way(line.link, line.dir));
  return make("li", {}, make("time", {}, line.t.toFixed(3)), head, make("code", {}, line.frame));
}

const WAYS = {
  client: { in: ["→", "Browser to cloud: "], out: ["←", "Cloud to browser: "] },
  agent: { in: ["←", "Agent to cloud: "], out: ["→", "Cloud to agent: "] },
};

/** An arrow for the eye, and words for those who do not see the lane. */
function way(link, dir) {
  const both = ["⇄", link === "client" ? "Browser and cloud: " : "Cloud and agent: "];
  const [arrow, words] = dir === "both" ? both : WAYS[link][dir];
  return [
    make("i", { ariaHidden: "true" }, arrow),
    make("span", { className: "hidden" }, words),
  ];
}

/** Leave sound out of a frame; its size stays. */
function short(frame) {
  return frame.replace(/"(audio_base_64|user_audio_chunk)":\s*"([^"\\]*)"/g, (whole, key, sound) =>
    sound.startsWith("<") ? whole : `"${key}":"<${bytesOf(sound)} bytes>"`);
}

function bytesOf(base64) {
  return Math.floor((base64.replace(/=+$/, "").length * 3) / 4);
}

/** Find the type of a frame, how it folds, and what it says in a few words. */
function read(frame, link) {
  let body;
  try {
    body = JSON.parse(frame);
  } catch {
    return { type: "not JSON", kind: "odd", gist: frame.slice(0, 120), part: "" };
  }
  const type = String(body?.type ?? (body?.user_audio_chunk ? "user_audio_chunk" : "no type"));
  const last = link === "agent" && type === "agent_response" && body.is_final;
  return { type, kind: kindOf(type, link, last), gist: last ? "terminator" : gist(body, type, link) };
}

function kindOf(type, link, last) {
  if (type === "ping" || type === "pong") return "ping";
  if (type === "error") return "error";
  if (link === "agent") return type === "agent_response" && !last ? "stream" : "event";
  const streams = ["audio", "agent_chat_response_part", "user_audio_chunk"];
  return streams.includes(type) ? "stream" : "event";
}

function gist(body, type, link) {
  const event = body[`${type}_event`] ?? body.text_response_part ?? body;
  switch (type) {
    case "user_transcript":
      return link === "agent" ? heardSoFar(body.user_transcript) : event.user_transcript ?? "";
    case "agent_response":
      return link === "agent" ? body.content ?? "" : event.agent_response ?? "";
    case "agent_response_correction":
      return `heard: ${event.corrected_agent_response ?? ""}`;
    case "audio":
      return event.audio_base_64 ?? "";
    case "user_audio_chunk":
      return body.user_audio_chunk;
    case "ping":
    case "pong":
    case "interruption":
      return event.event_id === undefined ? "" : `id ${event.event_id}`;
    case "error":
    case "user_message":
    case "agent_chat_response_part":
      return event.message ?? event.text ?? "";
    default:
      return event.conversation_id ?? "";
  }
}

function heardSoFar(messages) {
  if (!Array.isArray(messages) || messages.length === 0) return "";
  return `${messages.at(-1)?.content ?? ""} (${messages.length} in all)`;
}

/** What a run says as a whole: its words joined, or the bytes of its sound added up. */
function gistOf(lines) {
  const [{ kind, type, gist }] = lines;
  if (kind === "ping") return lines.length === 1 ? gist : "";
  const seconds = lines.at(-1).t - lines[0].t;
  const span = seconds < 0.1 ? "" : ` in ${seconds.toFixed(1)} s`;
  if (kind === "stream" && type.includes("audio")) {
    const bytes = lines.reduce((sum, line) => sum + Number(/\d+/.exec(line.gist) ?? 0), 0);
    return `${(bytes / 1000).toFixed(1)} kB${span}`;
  }
  return lines.map((line) => line.gist).join("") + span;
}

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Indent JSON, keys and strings marked; what is no JSON stays as it is. */
function pretty(frame) {
  let text;
  try {
    text = JSON.stringify(JSON.parse(frame), null, 2);
  } catch {
    return [frame];
  }
  const parts = [];
  let from = 0;
  for (const token of text.matchAll(TOKEN)) {
    const kind = token[1] ? (token[2] ? "key" : "text") : "value";
    const marked = token[1] ?? token[0];
    parts.push(text.slice(from, token.index), make("span", { className: kind }, marked));
    from = token.index + marked.length;
  }
  return [...parts, text.slice(from)];
}
