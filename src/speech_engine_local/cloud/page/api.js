// The cloud's HTTP side, and what can go wrong with it, in words.

/** A request that failed. `fields` are the entries of a 422 body: {loc, msg}. */
export class ApiError extends Error {
  constructor(message, status = 0, fields = []) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

/** The management API of the cloud that served this page. */
export class Api {
  #key;

  constructor(key) {
    this.#key = key;
  }

  /** List engines, the newest first. */
  engines(cursor = null) {
    const query = new URLSearchParams({ page_size: "100" });
    if (cursor) query.set("cursor", cursor);
    return this.#json("GET", `/v1/speech-engine?${query}`);
  }

  engine(id) {
    return this.#json("GET", `/v1/speech-engine/${encodeURIComponent(id)}`);
  }

  create(body) {
    return this.#json("POST", "/v1/speech-engine", body);
  }

  remove(id) {
    return this.#json("DELETE", `/v1/speech-engine/${encodeURIComponent(id)}`);
  }

  /** Ask for an address that opens one conversation. */
  async signedUrl(id) {
    const query = new URLSearchParams({ agent_id: id });
    const body = await this.#json("GET", `/v1/convai/conversation/get-signed-url?${query}`);
    return body.signed_url;
  }

  /** Yield the lines of a conversation's wires while it goes on. */
  async *wires(conversationId, signal) {
    const path = `/v1/local/wires/${encodeURIComponent(conversationId)}`;
    const response = await this.#send("GET", path, undefined, signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line) yield JSON.parse(line);
      }
    }
  }

  async #json(method, path, body) {
    const response = await this.#send(method, path, body);
    try {
      return await response.json();
    } catch {
      throw new ApiError("The cloud's answer broke off, or is no JSON.", response.status);
    }
  }

  async #send(method, path, body, signal) {
    if (!/^[\x20-\x7e]+$/.test(this.#key)) throw new ApiError(WRONG_KEY, 401);
    const headers = { "xi-api-key": this.#key };
    if (body !== undefined) headers["content-type"] = "application/json";
    const request = { method, headers, body: JSON.stringify(body), signal, cache: "no-store" };
    let response;
    try {
      response = await fetch(path, request);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(GONE);
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

const WRONG_KEY = "This is not the cloud's key. Was the cloud started anew, with another one?";
const GONE = `The cloud at ${location.host} does not answer. Is it still running?`;

/** Read a refusal; `detail` may be a list of fields, an object or a plain text. */
async function refusal(response) {
  const body = await response.json().catch(() => null);
  const detail = body?.detail;
  if (response.status === 401) return new ApiError(WRONG_KEY, 401);
  if (Array.isArray(detail)) return new ApiError("Some fields are not right.", 422, detail);
  const told = typeof detail === "string" ? detail : detail?.message;
  return new ApiError(told ?? `The cloud answered ${response.status}.`, response.status);
}
