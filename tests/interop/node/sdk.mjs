// The official TypeScript SDK, unchanged, against the cloud that ELEVENLABS_BASE_URL names.
//
// Every step prints one line of JSON: {"step": name, ...}. Between "serving" and "hung up" it is
// the agent of a conversation that the test holds through the cloud.

import { createServer } from "node:http";
import { once } from "node:events";
import { ElevenLabsClient } from "@elevenlabs/elevenlabs-js";

const baseUrl = process.env.ELEVENLABS_BASE_URL;
const client = new ElevenLabsClient({ apiKey: process.env.ELEVENLABS_API_KEY, baseUrl });
const { speechEngine } = client;

function tell(step, result = {}) {
  console.log(JSON.stringify({ step, ...result }));
}

async function listen(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server.address().port;
}

/** Tell what an error of the SDK is made of. */
async function failing(step, call) {
  try {
    await call();
  } catch (error) {
    const { statusCode, body, message } = error;
    return tell(step, { name: error.constructor.name, statusCode, body, message });
  }
  return tell(step, { name: null });
}

async function manage(wsUrl) {
  const engine = await speechEngine.create({
    name: "From TypeScript",
    speechEngine: { wsUrl, requestHeaders: { "X-From": "typescript" } },
    tags: ["one", "two"],
    cascadeTimeoutSeconds: 5,
  });
  tell("create", { id: engine.engineId, config: engine.config });
  const same = await speechEngine.get(engine.engineId);
  tell("get", { id: same.engineId, config: same.config });
  const updated = await speechEngine.update(engine.engineId, {
    overrides: { firstMessage: true },
    turn: { turnTimeout: 9 },
  });
  tell("update", { id: updated.engineId, config: updated.config });
  const renamed = await speechEngine.duplicate(engine.engineId, { name: "A copy" });
  tell("duplicate", { id: renamed.engineId, config: renamed.config });
  const plain = await speechEngine.duplicate(engine.engineId);
  tell("duplicate plainly", { id: plain.engineId, config: plain.config });
  return [engine, renamed, plain];
}

async function listAll() {
  const pages = [];
  let cursor;
  do {
    const page = await speechEngine.list({ pageSize: 2, sortBy: "name", sortDirection: "asc", cursor });
    pages.push(page.speechEngines);
    cursor = page.hasMore ? page.nextCursor : undefined;
  } while (cursor);
  return pages;
}

async function admit(engineId) {
  const { conversations } = client.conversationalAi;
  tell("token", await conversations.getWebrtcToken({ agentId: engineId }));
  tell("signed url", await conversations.getSignedUrl({ agentId: engineId }));
  const named = await conversations.getSignedUrl({ agentId: engineId, includeConversationId: true });
  tell("signed url with id", named);
}

async function fail(wsUrl) {
  const stranger = new ElevenLabsClient({ apiKey: "sk_wrong", baseUrl });
  await failing("wrong key", () => stranger.speechEngine.get("seng_x"));
  await failing("unknown", () => speechEngine.get("seng_nobody"));
  const slow = { speechEngine: { wsUrl }, cascadeTimeoutSeconds: 99 };
  await failing("invalid", () => speechEngine.create(slow));
  // The control: where a key is missing from a body, this SDK does complain.
  const careless = createServer((_, response) => {
    response.setHeader("content-type", "application/json");
    response.end('{"speech_engine_id": "seng_x", "name": "x"}');
  });
  const careful = new ElevenLabsClient({
    apiKey: "sk_any",
    baseUrl: `http://127.0.0.1:${await listen(careless)}`,
  });
  await failing("incomplete body", () => careful.speechEngine.get("seng_x"));
  careless.closeAllConnections();
  careless.close();
}

/** Counts, and falls silent in mid reply until the signal says that it was interrupted. */
async function* count(signal) {
  yield* ["One, ", "two, ", "three, "];
  await once(signal, "abort");
  tell("aborted");
}

async function serve(engine, server) {
  await new Promise((resolve) => {
    speechEngine.attach(engine.engineId, server, "/ws", {
      onInit(conversationId) {
        tell("init", { conversationId });
      },
      async onTranscript(transcript, signal, session) {
        tell("transcript", { transcript });
        const text = transcript.at(-1).content;
        session.sendResponse(text === "count" ? count(signal) : `You said: ${text}.`);
      },
      onClose(session) {
        tell("close", { conversationId: session.conversationId });
        resolve();
      },
      onError(error) {
        tell("error", { message: error.message });
      },
    });
    tell("serving", { id: engine.engineId });
  });
}

const server = createServer();
const wsUrl = `ws://127.0.0.1:${await listen(server)}/ws`;
const engines = await manage(wsUrl);
tell("list", { pages: await listAll() });
await admit(engines[0].engineId);
await fail(wsUrl);
await serve(engines[0], server);
for (const { engineId } of engines) await speechEngine.delete(engineId);
tell("list after delete", { pages: await listAll() });
server.closeAllConnections();
server.close();
tell("done");
