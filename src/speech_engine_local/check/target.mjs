// A ready target on the official TypeScript SDK, unchanged: its handlers obey what the caller says.
// The commands are those of targets.py; the SDK is found in node_modules of the working folder.
//
//   node target.mjs PORT     (ELEVENLABS_API_KEY verifies the callers)
//
// It prints its address, serves until it is told to terminate, and looks at no signal: what the SDK
// does about an interruption by itself is what is to be seen.

import { createRequire } from "node:module";
import { createServer } from "node:http";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "here.js"));
const { ElevenLabsClient } = require("@elevenlabs/elevenlabs-js");

const SLOW_PIECE_MS = 50;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const events = new Map();
const memories = new WeakMap();

function eventsOf(id) {
  if (!events.has(id)) events.set(id, []);
  return events.get(id);
}

function memoryOf(session) {
  if (!memories.has(session)) {
    memories.set(session, { raised: false, runs: 0, initialised: false, closed: false });
    memories.get(session).maySpeak = new Promise((resolve) => {
      memories.get(session).letSpeak = resolve;
    });
  }
  return memories.get(session);
}

async function* words(count, how) {
  for (let n = 1; n <= count; n++) {
    yield `word${n} `;
    await sleep(how === " slowly" ? SLOW_PIECE_MS : 0);
  }
  if (how === " and wait") await sleep(30_000);
}

async function* broken() {
  yield "before it breaks ";
  throw new Error("as the caller said");
}

async function* unwilling() {
  yield "begun ";
  await sleep(4_000);
}

function witness(memory) {
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        await sleep(SLOW_PIECE_MS);
        return { done: false, value: "still " };
      },
      async return() {
        memory.closed = true;
        return { done: true, value: undefined };
      },
    }),
  };
}

const commands = [
  [/^speech-engine check: ready\?$/, (s) => s.sendResponse("speech-engine check: ready")],
  [/^echo (.*)$/s, (s, _, text) => s.sendResponse(text)],
  [/^history$/, (s, transcript) => s.sendResponse(transcript.map((m) => m.role).join(" "))],
  [/^conversation$/, (s) => s.sendResponse(String(s.conversationId))],
  [/^init done\?$/, (s) => s.sendResponse(memoryOf(s).initialised ? "yes" : "no")],
  [/^say (\d+) words?( slowly| and wait)?$/, (s, _, n, how) => s.sendResponse(words(+n, how))],
  [/^sleep ([\d.]+)$/, async (s, _, n) => {
    await sleep(n * 1000);
    await s.sendResponse("slept");
  }],
  [/^run for ([\d.]+) s$/, async (s, _, n) => {
    const run = ++memoryOf(s).runs;
    await sleep(n * 1000);
    await s.sendResponse(`run ${run}`);
  }],
  [/^raise once$/, async (s) => {
    const memory = memoryOf(s);
    if (!memory.raised) {
      memory.raised = true;
      throw new Error("as the caller said, once");
    }
    await s.sendResponse("this time it went well");
  }],
  [/^raise(?: (.+))?$/, async (s, _, text) => {
    throw new Error(text ?? "as the caller said");
  }],
  [/^break stream$/, (s) => s.sendResponse(broken())],
  [/^nothing$/, () => {}],
  [/^reply twice$/, async (s) => {
    await s.sendResponse("once");
    await s.sendResponse("twice");
  }],
  [/^swallow cancellation$/, (s) => s.sendResponse(unwilling())],
  [/^speak later$/, async (s) => {
    memoryOf(s).maySpeak.then(() => s.sendResponse("late words")).catch(() => {});
    await sleep(5_000);
  }],
  [/^let it speak$/, async (s) => {
    memoryOf(s).letSpeak();
    await sleep(300);
    await s.sendResponse("my own words");
  }],
  [/^witness$/, (s) => s.sendResponse(witness(memoryOf(s)))],
  [/^was it closed\?$/, async (s) => {
    await sleep(1000);
    await s.sendResponse(memoryOf(s).closed ? "closed" : "open");
  }],
  [/^hang up$/, (s) => s.close()],
  [/^events of (\S+)$/, async (s, _, id) => {
    for (let n = 0; n < 100 && !eventsOf(id).length; n++) await sleep(20);
    await sleep(300);
    await s.sendResponse(eventsOf(id).join(" "));
  }],
];

const handlers = {
  async onInit(id, session) {
    if (String(id).includes("slow_init")) await sleep(3200);
    memoryOf(session).initialised = true;
  },
  async onTranscript(transcript, signal, session) {
    const said = transcript.length ? String(transcript.at(-1).content) : "echo nobody spoke";
    for (const [pattern, obey] of commands) {
      const found = pattern.exec(said);
      if (found) return obey(session, transcript, ...found.slice(1));
    }
    return session.sendResponse(`You said: ${said}`);
  },
  onClose(session) {
    eventsOf(session.conversationId).push("close");
  },
  onDisconnect(session) {
    eventsOf(session.conversationId).push("disconnect");
  },
  onError(error, session) {
    eventsOf(session.conversationId).push("error");
  },
};

const client = new ElevenLabsClient({ apiKey: process.env.ELEVENLABS_API_KEY });
const server = createServer((_, response) => response.writeHead(404).end());
client.speechEngine.attach("seng_check", server, "/ws", handlers);
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(`ws://127.0.0.1:${server.address().port}/ws`);
});
