// One conversation with the cloud, in the protocol of the official browser client.

const FIRST_FRAME_MS = 10_000;

/**
 * Opens a signed address and speaks `convai` on it.
 *
 * What comes is told to `on`: frame(dir, text, ms), started(id, format), part(text, kind, id),
 * reply(text, id), correction(original, corrected, id), sound(base64, id), interruption(id),
 * failed(message), ended(text, byUs).
 */
export class Call {
  #socket;
  #on;
  #began = 0;
  #started = false;
  #endedByUs = false;
  #told = "";
  #watch;

  constructor(signedUrl, { firstMessage = "", textOnly = false }, on) {
    this.#on = on;
    this.#socket = new WebSocket(ownAddress(signedUrl), ["convai"]);
    this.#socket.onopen = () => this.#open(firstMessage, textOnly);
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) => this.#closed(event);
    this.#watch = setTimeout(() => {
      this.#told = "The cloud did not begin the conversation.";
      this.#socket.close();
    }, FIRST_FRAME_MS);
  }

  /** Say something. It interrupts what the agent says. */
  say(text) {
    this.#send({ type: "user_message", text });
  }

  end() {
    this.#endedByUs = true;
    this.#socket.close(1000, "User ended conversation");
  }

  #open(firstMessage, textOnly) {
    this.#began = performance.now();
    this.#send({
      type: "conversation_initiation_client_data",
      conversation_config_override: {
        agent: firstMessage ? { first_message: firstMessage } : {},
        tts: {},
        conversation: textOnly ? { text_only: true } : {},
      },
      source_info: { source: "local_page", version: "1" },
    });
  }

  #send(body) {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const text = JSON.stringify(body);
    this.#on.frame("out", text, performance.now() - this.#began);
    this.#socket.send(text);
  }

  #receive(text) {
    if (typeof text !== "string") return;
    this.#on.frame("in", text, performance.now() - this.#began);
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      this.#on.failed("The cloud sent a frame that is no JSON.");
      return;
    }
    this.#tell(frame);
  }

  #tell(frame) {
    const event = frame[`${frame.type}_event`] ?? {};
    switch (frame.type) {
      case "conversation_initiation_metadata":
        clearTimeout(this.#watch);
        this.#started = true;
        this.#on.started(event.conversation_id, event.agent_output_audio_format);
        break;
      case "ping":
        this.#send({ type: "pong", event_id: event.event_id });
        break;
      case "audio":
        if (event.audio_base_64) this.#on.sound(event.audio_base_64, event.event_id);
        break;
      case "agent_chat_response_part": {
        const part = frame.text_response_part ?? {};
        this.#on.part(part.text ?? "", part.type, part.event_id);
        break;
      }
      case "agent_response":
        this.#on.reply(event.agent_response, event.event_id);
        break;
      case "agent_response_correction":
        this.#on.correction(
          event.original_agent_response, event.corrected_agent_response, event.event_id);
        break;
      case "interruption":
        this.#on.interruption(event.event_id);
        break;
      case "error":
        this.#told = event.message ?? event.reason ?? `error ${event.code}`;
        this.#on.failed(this.#told);
        break;
    }
  }

  #closed(event) {
    clearTimeout(this.#watch);
    this.#on.ended(...this.#ending(event));
  }

  /** Why it ended, in words, and whether that is as it should be. */
  #ending({ code, reason }) {
    if (this.#endedByUs) return ["You ended the conversation.", true];
    if (code === 1000) return [this.#told || reason || "The conversation has ended.", true];
    if (code === 1001) return ["The cloud was stopped.", false];
    if (reason || this.#told) return [reason || this.#told, false];
    if (code === 1006 && this.#started) {
      return ["The connection to the cloud was lost. Is it still running?", false];
    }
    if (code === 1006) return ["The cloud could not be reached, or refused.", false];
    return [`The conversation ended with code ${code}.`, false];
  }
}

// The cloud that served this page is the one that issued the address. Behind a proxy or with a
// public URL it may name another host, which the policy of this page would not let it reach.
function ownAddress(signedUrl) {
  const url = new URL(signedUrl);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.host = location.host;
  url.searchParams.set("source", "local_page");
  url.searchParams.set("version", "1");
  return url;
}
