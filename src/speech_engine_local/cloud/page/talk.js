// A conversation as the reader sees, hears and steers it.

import { Call } from "/call.js";
import { $, onceAFrame, tell } from "/dom.js";
import { Log } from "/log.js";
import { Player } from "/sound.js";

const STATES = {
  idle: "Not begun",
  connecting: "Connecting",
  listening: "Listening",
  thinking: "Thinking",
  speaking: "Speaking",
  ended: "Ended",
  failed: "Failed",
};

const FIRST_SOUND_MS = 3000; // from the end of a text to its first sound, on a busy machine
const NEXT_SOUND_MS = 400; // between two sentences

/** The middle of the page. `onrefused(error)` is told about a key that is no longer right. */
export class Talk {
  #api = null;
  #engine = null;
  #wires;
  #onrefused;
  #call = null;
  #following = null;
  #log = new Log();
  #player = new Player((playing) => this.#played(playing));
  #begun = false; // the cloud's first frame is here
  #waiting = false; // something was said, and no word came back
  #streaming = false; // words are coming
  #asked = 0;
  #sounds = false; // sound is to be expected: of a cloud without a voice there is none
  #pause = null; // the timer of a pause in which more sound may come
  #newest = -1; // the highest event id of a reply
  #stale = -1; // replies up to this id are over: their sound is not played
  #meter = onceAFrame(() => this.#level());

  constructor(wires, onrefused) {
    this.#wires = wires;
    this.#onrefused = onrefused;
    on("start-form", "submit", () => this.#start());
    on("say", "submit", () => this.#say($("say-text").value.trim()));
    on("interrupt", "click", () => this.#interrupt($("say-text").value.trim()));
    on("end", "click", () => this.#end());
    on("mute", "click", () => this.#mute());
    document.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("pointerdown", () => this.#player.wake());
    addEventListener("pagehide", () => this.#call?.end());
  }

  /** Take the engine that the next conversation is held with; null is none. */
  choose(api, engine) {
    this.#api = api;
    this.#engine = engine;
    const allowed = engine?.overrides.first_message ?? false;
    $("first-message").disabled = !allowed;
    if (!allowed) $("first-message").value = "";
    $("first-hint").hidden = allowed || !engine;
    $("text-only").disabled = engine?.conversation.text_only ?? false;
    $("text-only").checked ||= $("text-only").disabled;
    $("start").disabled = !engine;
  }

  /** Leave: the key is no longer right, or another one comes. */
  leave() {
    if (this.#call) this.#end();
  }

  async #start() {
    if (!this.#engine || this.#following) return;
    this.#reset();
    const following = (this.#following = new AbortController());
    const wishes = {
      firstMessage: $("first-message").value.trim(),
      textOnly: $("text-only").checked && !$("text-only").disabled,
    };
    this.#show("connecting");
    $("say-text").focus();
    try {
      const url = await this.#api.signedUrl(this.#engine.speech_engine_id);
      if (this.#following !== following) return; // ended while it was asked for
      this.#call = new Call(url, wishes, this.#hears());
    } catch (error) {
      if (this.#following === following) this.#over(error.message, false);
      if (error.status === 401) this.#onrefused(error);
    }
  }

  #reset() {
    this.#log.clear();
    this.#wires.clear();
    this.#begun = this.#waiting = this.#streaming = false;
    this.#newest = this.#stale = -1;
    this.#sounds = !$("text-only").checked;
    tell($("talk-problem"), "");
  }

  #hears() {
    return {
      frame: (dir, text, ms) => this.#wires.own(dir, text, ms),
      started: (id, format) => this.#started(id, format),
      part: (text, kind, id) => this.#part(text, kind, id),
      reply: (text, id) => this.#reply(text, id),
      correction: (original, heard, id) => this.#correct(original, heard, id),
      sound: (base64, id) => this.#sound(base64, id),
      interruption: (id) => this.#interrupted(id - 1),
      failed: (message) => tell($("talk-problem"), message),
      ended: (text, wanted) => this.#over(text, wanted),
    };
  }

  #started(id, format) {
    this.#begun = true;
    this.#log.note(`${id} with ${this.#engine.name}`);
    this.#wires.follow(id, this.#api.wires(id, this.#following.signal));
    try {
      this.#player.open(format);
    } catch (error) {
      tell($("talk-problem"), error.message);
    }
    this.#refresh();
  }

  #say(text) {
    if (!this.#begun || !text) return;
    tell($("talk-problem"), "");
    this.#interrupted(this.#newest);
    this.#player.wake();
    this.#log.user(text);
    this.#waiting = true;
    this.#asked = performance.now();
    this.#call.say(text);
    $("say-text").value = "";
    $("say-text").focus();
    this.#refresh();
  }

  /** There is no frame that only interrupts: like a caller, one interrupts by saying something. */
  #interrupt(text) {
    if (this.#busy) this.#say(text || "Stop.");
  }

  /** Replies up to this id are over: silence, at once. */
  #interrupted(id) {
    this.#stale = Math.max(this.#stale, id);
    if (this.#speaks) this.#log.newest?.cut();
    this.#streaming = false;
    this.#player.stop();
    this.#resume();
    this.#refresh();
  }

  #part(text, kind, id) {
    const reply = this.#answer(id);
    reply.add(text);
    this.#streaming = kind !== "stop" && id > this.#stale;
    this.#refresh();
  }

  #reply(text, id) {
    const reply = this.#answer(id);
    reply.finish(text);
    this.#streaming = false;
    if (text && !reply.sounds && id > this.#stale) this.#wait(FIRST_SOUND_MS);
    $("aloud").textContent = text;
    this.#refresh();
  }

  #correct(original, heard, id) {
    const reply = this.#log.has(id) ? this.#log.reply(id) : this.#log.newest;
    reply?.correct(original ?? "", heard ?? "");
    $("aloud").textContent = `Interrupted. Heard: ${heard || "nothing"}`;
  }

  #sound(base64, id) {
    if (id <= this.#stale) return;
    const reply = this.#answer(id);
    reply.sounds = this.#sounds = true;
    this.#resume();
    if (this.#asked) reply.fact(`first sound after ${this.#since()}`);
    this.#asked = 0;
    this.#player.add(base64);
  }

  #played(playing) {
    if (!playing && this.#begun) this.#wait(NEXT_SOUND_MS);
    this.#refresh();
  }

  /** The agent still speaks for a moment: more sound may be on its way. */
  #wait(ms) {
    if (!this.#sounds) return;
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = null;
      this.#sounds = this.#log.newest?.sounds ?? false;
      this.#refresh();
    }, ms);
  }

  #resume() {
    clearTimeout(this.#pause);
    this.#pause = null;
  }

  /** The reply with this id, and that it has begun. */
  #answer(id) {
    this.#newest = Math.max(this.#newest, id);
    const isNew = !this.#log.has(id);
    const reply = this.#log.reply(id);
    if (isNew && this.#waiting && id > this.#stale) {
      this.#waiting = false;
      reply.fact(`first word after ${this.#since()}`);
    }
    return reply;
  }

  #since() {
    return `${((performance.now() - this.#asked) / 1000).toFixed(2)}\u00a0s`;
  }

  #end() {
    if (this.#call) this.#call.end();
    else this.#over("You ended the conversation.", true);
  }

  #over(text, wanted) {
    const stayed = $("say").contains(document.activeElement) || document.activeElement === $("end");
    this.#following = this.#call = null;
    this.#begun = this.#waiting = this.#streaming = false;
    this.#player.close();
    this.#resume();
    this.#log.newest?.element.classList.remove("streaming");
    if (wanted) this.#log.note(text);
    else tell($("talk-problem"), text);
    this.#show(wanted ? "ended" : "failed");
    $("start").textContent = "Start again";
    if (stayed) $("start").focus();
  }

  #mute() {
    const muted = $("mute").getAttribute("aria-pressed") !== "true";
    $("mute").setAttribute("aria-pressed", String(muted));
    this.#player.muted = muted;
  }

  #key(event) {
    this.#player.wake();
    const elsewhere = event.target.closest?.("dialog, #engine-form, #wires-find");
    if (event.key !== "Escape" || event.repeat || elsewhere || !this.#following) return;
    event.preventDefault();
    if (this.#busy) this.#interrupt("");
    else this.#end();
  }

  get #busy() {
    return this.#begun && (this.#waiting || this.#speaks);
  }

  get #speaks() {
    return this.#streaming || this.#player.playing || this.#pause !== null;
  }

  #refresh() {
    if (!this.#begun) return;
    this.#show(this.#speaks ? "speaking" : this.#waiting ? "thinking" : "listening");
  }

  #show(state) {
    const live = this.#following !== null;
    if ($("state").dataset.state !== state) {
      $("state").dataset.state = state;
      $("state").textContent = STATES[state];
    }
    $("start-form").hidden = live;
    $("say").hidden = $("end").hidden = !live;
    $("interrupt").setAttribute("aria-disabled", String(!this.#busy));
    this.#meter();
  }

  #level() {
    $("level").style.setProperty("--level", this.#player.level().toFixed(3));
    if (this.#player.playing) this.#meter();
  }
}

function on(id, type, work) {
  $(id).addEventListener(type, (event) => {
    event.preventDefault();
    work();
  });
}
