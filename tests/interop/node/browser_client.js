// A page with `@elevenlabs/client`: its unmodified lib.iife.js is the global `ElevenLabsClient`.

import { callbacks, listen } from "/stage.js";

let conversation;

window.stage = {
  async begin(options) {
    try {
      conversation = await ElevenLabsClient.Conversation.startSession({ ...options, ...callbacks });
    } catch (error) {
      note("rejected", error.message);
    }
  },
  say: (text) => conversation.sendUserMessage(text),
  listen: () => listen(conversation),
  end: () => conversation.endSession(),
};
note("ready", ElevenLabsClient.Conversation.name);
