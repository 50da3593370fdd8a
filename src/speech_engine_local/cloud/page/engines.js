// The engines of the cloud: list, choose, make, delete.

import { $, make, tell } from "/dom.js";

/**
 * The left side of the page. `on` is told: chosen(engine or null), made(), refused(error), where
 * an error is one that the page as a whole must answer (a wrong key).
 */
export class EngineList {
  #api = null;
  #on;
  #chosen = null;
  #cursor = null;

  constructor(on) {
    this.#on = on;
    $("new-engine").addEventListener("click", () => {
      this.#unfold($("engine-form").hidden);
      if (!$("engine-form").hidden) $("engine-url").focus();
    });
    $("engine-cancel").addEventListener("click", () => this.#fold());
    $("engine-form").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#fold();
    });
    $("engine-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#make();
    });
    $("engines").addEventListener("change", (event) => this.#choose(event.target.value));
    $("more-engines").addEventListener("click", () => this.#guard(() => this.#more()));
    $("delete-engine").addEventListener("click", () => $("sure").showModal());
    $("sure").addEventListener("close", () => {
      if ($("sure").returnValue === "yes") this.#guard(() => this.#delete());
      $("sure").returnValue = "no";
    });
  }

  /** List the engines of a cloud, and choose one. Errors are the caller's. */
  async load(api, wanted = null) {
    this.#api = api;
    this.#cursor = null;
    const page = await api.engines();
    $("engines").querySelectorAll("label").forEach((label) => label.remove());
    this.#append(page);
    const ids = page.speech_engines.map((engine) => engine.speech_engine_id);
    $("engines-empty").hidden = ids.length > 0;
    tell($("engines-problem"), "");
    await this.#choose(ids.includes(wanted) ? wanted : (ids[0] ?? null));
    if (ids.length === 0) this.#unfold(true);
  }

  async #more() {
    this.#append(await this.#api.engines(this.#cursor));
  }

  #append({ speech_engines: engines, has_more: more, next_cursor: cursor }) {
    for (const { name, speech_engine_id: id, created_at_unix_secs: seconds } of engines) {
      const radio = make("input", { type: "radio", name: "engine", value: id });
      const made = new Date(seconds * 1000).toLocaleString();
      $("engines").append(
        make("label", {}, radio, make("span", {}, make("b", {}, name), make("small", {}, made))));
    }
    this.#cursor = cursor;
    $("more-engines").hidden = !more;
  }

  async #choose(id) {
    this.#chosen = id;
    const radio = $("engines").querySelector(`input[value="${CSS.escape(id ?? "")}"]`);
    if (radio) radio.checked = true;
    const engine = id && (await this.#guard(() => this.#api.engine(id)));
    if (this.#chosen !== id) return; // another one was chosen meanwhile
    $("engine-facts").hidden = !engine;
    if (engine) this.#tellFacts(engine);
    this.#on.chosen(engine || null);
  }

  #tellFacts(engine) {
    $("fact-url").textContent = engine.speech_engine.ws_url;
    $("fact-id").textContent = engine.speech_engine_id;
    $("fact-sound").textContent = engine.conversation.text_only
      ? "text only" : engine.tts.agent_output_audio_format;
    $("fact-patience").textContent = `${engine.cascade_timeout_seconds} s`;
    $("sure-name").textContent = `"${engine.name}", ${engine.speech_engine_id}`;
  }

  async #delete() {
    await this.#api.remove(this.#chosen);
    await this.load(this.#api);
    $("new-engine").focus();
  }

  #unfold(unfolded) {
    $("engine-form").hidden = !unfolded;
    $("new-engine").setAttribute("aria-expanded", String(unfolded));
  }

  #fold() {
    this.#unfold(false);
    $("new-engine").focus();
  }

  async #make() {
    this.#tellFields([]);
    const form = $("engine-form");
    let engine;
    try {
      engine = await this.#api.create(bodyOf(form));
      form.reset();
      this.#unfold(false);
      await this.load(this.#api, engine.speech_engine_id);
      this.#on.made();
    } catch (error) {
      if (error.status === 401) this.#on.refused(error);
      else if (error.status === 422) this.#tellFields(error.fields);
      else $("engine-problem").textContent = error.message;
    }
  }

  /** Put the messages of a 422 beside their fields; those of no field stand above. */
  #tellFields(details) {
    const form = $("engine-form");
    const others = [];
    for (const field of form.querySelectorAll("input, select")) {
      const problem = $(`${field.id}-problem`);
      field.removeAttribute("aria-invalid");
      if (problem) problem.textContent = "";
    }
    for (const { loc, msg } of details) {
      const field = form.elements.namedItem(loc.slice(1).join("."));
      const problem = field && $(`${field.id}-problem`);
      if (problem) {
        problem.textContent = msg;
        field.setAttribute("aria-invalid", "true");
      } else {
        others.push(`${loc.slice(1).join(".") || "The form"}: ${msg}`);
      }
    }
    $("engine-problem").textContent = others.join(" ");
    form.querySelector("[aria-invalid]")?.focus();
  }

  /** Do something that may fail; the reader is told. */
  async #guard(work) {
    tell($("engines-problem"), "");
    try {
      return await work();
    } catch (error) {
      if (error.status === 401) this.#on.refused(error);
      else tell($("engines-problem"), error.message);
      return null;
    }
  }
}

/** The request of the form; what is no number goes as it is, and the cloud says so. */
function bodyOf(form) {
  const value = (name) => form.elements.namedItem(name).value.trim();
  const seconds = value("cascade_timeout_seconds").replace(",", ".");
  const patience = seconds === "" || Number.isNaN(Number(seconds)) ? seconds : Number(seconds);
  return {
    speech_engine: { ws_url: value("speech_engine.ws_url") },
    tts: { agent_output_audio_format: value("tts.agent_output_audio_format") },
    overrides: { first_message: form.elements.namedItem("overrides.first_message").checked },
    ...(value("name") && { name: value("name") }),
    ...(patience !== "" && { cascade_timeout_seconds: patience }),
  };
}
