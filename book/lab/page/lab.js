// What the parts of the lab share: the worker that holds the models, the words of the page's language, and what is said
// where a part cannot run. Classic scripts, so that what needs no worker runs from a folder too.
"use strict";

const Lab = {};

(() => {
  const base = new URL("../", document.currentScript.src); // the site's lab folder
  let worker;
  let last = 0;
  const waiting = new Map(); // id -> {resolve, reject}
  const listeners = new Set();

  /** Why the models cannot run here, as the name of a message of the part; undefined if they can. */
  Lab.missing = () => {
    if (location.protocol === "file:") return "file";
    if (!window.Worker) return "worker";
    if (!window.WebAssembly) return "wasm";
    return undefined;
  };

  function start() {
    worker = new Worker(new URL("engine/worker.js", base), { type: "module" });
    worker.onmessage = ({ data }) => {
      if (data.what) return listeners.forEach((listener) => listener(data));
      const { resolve, reject } = waiting.get(data.id);
      waiting.delete(data.id);
      data.error === undefined ? resolve(data.result) : reject(new Error(data.error));
    };
    worker.onerror = (event) => {
      for (const { reject } of waiting.values()) reject(new Error(event.message || "worker"));
      waiting.clear();
      worker = undefined;
    };
  }

  /** Ask the worker; it starts with the first question. */
  Lab.ask = (what, asked = {}) =>
    new Promise((resolve, reject) => {
      if (!worker) start();
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, what, ...asked });
    });

  /** Hear what a training tells on its way. */
  Lab.listen = (listener) => listeners.add(listener);

  /** A part: its element, its words, and its named elements (data-is). */
  class Part {
    constructor(root) {
      this.root = root;
      this.words = JSON.parse(root.dataset.words);
      this.is = Object.fromEntries([...root.querySelectorAll("[data-is]")].map((element) => [element.dataset.is, element]));
    }

    /** A message in the page's language, with what stands in braces filled in. */
    say(name, values = {}) {
      return this.words[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
    }

    /** Show a line in the part's status, which screen readers hear. */
    tell(text) {
      this.is.status.textContent = text;
    }

    /** Run `work`; what goes wrong, an error or a message that was thrown, becomes the status line. */
    async trying(work) {
      try {
        await work();
      } catch (error) {
        this.tell(typeof error === "string" ? error : this.say("failed", { why: error.message }));
      }
    }
  }

  const parts = new Map();

  /** Register what makes a part alive: `setUp(part)`. One that needs the worker is told apart where there is none. */
  Lab.part = (name, { needsWorker }, setUp) => {
    parts.set(name, (root) => {
      const part = new Part(root);
      const missing = needsWorker && Lab.missing();
      if (missing) {
        root.classList.add("lab-missing");
        part.tell(part.say(missing));
        for (const field of root.querySelectorAll("button, input, select")) field.disabled = true;
        return;
      }
      setUp(part);
      root.dataset.ready = "";
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const root of document.querySelectorAll("[data-lab]")) parts.get(root.dataset.lab)?.(root);
  });

  /** An element with attributes and children; SVG where the name is one of its. */
  Lab.make = (name, attributes = {}, ...children) => {
    const svg = ["svg", "g", "path", "line", "circle", "text", "rect", "title", "polygon"].includes(name);
    const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== undefined));
    return element;
  };

  const TARGET = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$/; // as task.js has it, which a classic script cannot import

  /** The target that a field holds; a message of `part` is thrown where it holds none. */
  Lab.targetOf = (part, field) => {
    const text = field.value.trim();
    if (!TARGET.test(text) || text.length > 8) throw part.say("target", { text });
    return text;
  };

  /** Hand a file to the reader. */
  Lab.save = (name, content, type) => {
    const url = URL.createObjectURL(new Blob([content], { type }));
    const link = Lab.make("a", { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
})();
