// The page of the local cloud: the key, and the three parts behind it.

import { Api } from "/api.js";
import { $ } from "/dom.js";
import { EngineList } from "/engines.js";
import { Talk } from "/talk.js";
import { WireView } from "/wires.js";

const KEPT = "speech-engine-key";

let api = null;
const talk = new Talk(new WireView(), refused);
const engines = new EngineList({
  chosen: (engine) => talk.choose(api, engine),
  made: () => $("start").focus(),
  refused,
});

/** Try a key: the engines are listed with it. */
async function enter(key) {
  api = new Api(key);
  try {
    await engines.load(api);
  } catch (error) {
    refused(error);
    return;
  }
  keep(key);
  const typed = $("door").contains(document.activeElement);
  show("desk");
  if (typed) $($("engine-form").hidden ? "start" : "engine-url").focus();
}

/** Back to the door, with the reason. */
function refused(error) {
  talk.leave();
  if (error.status === 401) keep(null);
  show("door");
  $("key-problem").textContent = error.message;
  $("key").setAttribute("aria-invalid", String(error.status === 401));
  $("key").focus();
}

function show(part) {
  $("door").hidden = part !== "door";
  $("desk").hidden = $("change-key").hidden = part !== "desk";
  document.body.dataset.part = part;
}

/** Keep the key for this tab; a browser that keeps nothing asks again. */
function keep(key) {
  try {
    if (key === null) sessionStorage.removeItem(KEPT);
    else sessionStorage.setItem(KEPT, key);
  } catch {
    // Storage is switched off.
  }
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

/** Take the key out of the address, where it would stay in the history. */
function takeFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key !== null) history.replaceState(null, "", location.pathname + location.search);
  return key;
}

function begin(key) {
  $("key-problem").textContent = "";
  if (key) {
    enter(key);
  } else {
    show("door");
    $("key").focus();
  }
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  if (key) enter(key);
  else $("key-problem").textContent = "Please type the key.";
});

$("change-key").addEventListener("click", () => {
  talk.leave();
  keep(null);
  $("key").value = "";
  begin(null);
});

addEventListener("hashchange", () => {
  const key = takeFromAddress();
  if (key !== null) {
    talk.leave();
    begin(key);
  }
});

begin(takeFromAddress() ?? kept());
