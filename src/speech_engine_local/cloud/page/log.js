// What was said, as it is said: the agent's words stream in, and what nobody heard is struck out.

import { $, make } from "/dom.js";

/** The list of turns. */
export class Log {
  #replies = new Map(); // event id -> Reply
  #list = $("log");

  clear() {
    this.#list.replaceChildren();
    this.#replies.clear();
  }

  /** Something about the conversation, said by nobody. */
  note(text) {
    this.#append(make("li", { className: "note" }, text));
  }

  user(text) {
    this.#append(make("li", { className: "user" }, who("You"), make("p", {}, text)));
  }

  /** The reply with this id; made when it is first asked for. */
  reply(id) {
    let reply = this.#replies.get(id);
    if (!reply) {
      reply = new Reply(() => this.#stick());
      this.#replies.set(id, reply);
      this.#append(reply.element);
    }
    return reply;
  }

  /** The newest reply, if there is one. */
  get newest() {
    return [...this.#replies.values()].at(-1);
  }

  has(id) {
    return this.#replies.has(id);
  }

  #append(item) {
    this.#list.append(item);
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  #stick() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    if (scrollHeight - scrollTop - clientHeight < 80) this.#list.scrollTop = scrollHeight;
  }
}

class Reply {
  sounds = false; // whether a piece of its sound has come
  #text = make("p");
  #facts = make("small", { className: "after" });
  #changed;
  #words = [];
  #cut = false;

  constructor(changed) {
    this.#changed = changed;
    const body = make("div", {}, this.#text, this.#facts);
    this.element = make("li", { className: "agent streaming" }, who("Agent"), body);
  }

  get text() {
    return this.#text.textContent;
  }

  /** More of it has come. */
  add(text) {
    if (!this.#cut) this.#text.append(text);
    this.#changed();
  }

  /** All of it has come. */
  finish(text) {
    this.element.classList.remove("streaming");
    if (!this.#cut && this.text !== text) this.#text.textContent = text;
    if (!this.text) this.fact("no words");
    this.#changed();
  }

  /** It was interrupted; how much of it was heard is told later. */
  cut() {
    this.#cut = true;
    this.element.classList.remove("streaming");
    this.element.classList.add("cut");
  }

  /** So much of it was heard. */
  correct(original, heard) {
    this.cut();
    const rest = original.startsWith(heard) ? original.slice(heard.length) : "";
    this.#text.replaceChildren(heard);
    if (rest) this.#text.append(make("s", {}, hidden(" not heard: "), rest));
    this.fact("interrupted");
    this.#changed();
  }

  /** A figure to stand below it. */
  fact(text) {
    if (this.#words.includes(text)) return;
    this.#words.push(text);
    this.#facts.textContent = this.#words.join(" · ");
  }
}

function who(name) {
  return make("b", { className: "who" }, name, hidden(": "));
}

function hidden(text) {
  return make("span", { className: "hidden" }, text);
}
