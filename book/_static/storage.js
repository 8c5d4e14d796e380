// Where the browser denies storage, every use of it throws. Then a page remembers for itself until it is left, so that
// the scripts of Sphinx and its theme, and ours, need not ask.
"use strict";

for (const name of ["localStorage", "sessionStorage"]) {
  try {
    window[name].getItem("edition");
  } catch {
    const kept = new Map();
    const storage = {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, `${value}`),
      removeItem: (key) => kept.delete(key),
    };
    Object.defineProperty(window, name, { value: storage });
  }
}
