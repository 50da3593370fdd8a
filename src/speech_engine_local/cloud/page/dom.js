// Elements. What others wrote goes in as text, never as markup.

/** Find the element with this id. */
export const $ = (id) => document.getElementById(id);

/** Make an element: `make("b", {className: "x"}, "text", child)`. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show a text in an element that is hidden while it has none. */
export function tell(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

/** Run a function at the next frame of the screen, once, however often it is asked for. */
export function onceAFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}
