// Ask both models the same thing: an answer token by token, its verdict, and shares over many answers.
"use strict";

Lab.part("ask", { needsWorker: true }, (part) => {
  const COUNT = 200;
  const MODELS = ["gen", "dpo"];
  const { make } = Lab;
  const { is } = part;
  let seed = 1;

  const percent = (p) => (p > 0 && p < 0.005 ? "<1" : `${Math.round(100 * p)}`);
  const share = (p) => p.toFixed(2);
  const settings = () => ({ temperature: Number(is.temperature.value), topK: Number(is.topK.value) });

  /** What the checker says of an answer, in words. */
  function verdictOf({ text, verdict }, target) {
    const values = { expression: text.replace(/E$/, ""), value: verdict.value, target };
    if (!verdict.wellFormed) return part.say("malformed");
    if (verdict.value === null) return part.say("undefined", values);
    const numbers = verdict.numbers === 1 ? part.say("one") : part.say("many", { n: verdict.numbers });
    return `${part.say(verdict.exact ? "right" : "wrong", values)} · ${numbers}`;
  }

  /** The table of an answer's tokens: what was drawn, how likely that was, and the likeliest at that place. */
  function tokensOf(steps) {
    const row = (label, cells) => make("tr", {}, make("th", { scope: "row" }, label), ...cells);
    const likely = (place) =>
      steps.map(({ drawn, likeliest }) => {
        const found = likeliest[place];
        if (!found) return make("td");
        const cell = make("td", { class: found.token === drawn ? "lab-bar drawn" : "lab-bar" }, make("b", {}, found.token), ` ${percent(found.p)}`);
        cell.style.setProperty("--p", found.p);
        return cell;
      });
    return make(
      "table",
      { class: "lab-tokens" },
      make("caption", {}, part.say("tokens")),
      make(
        "tbody",
        {},
        row(part.say("drawn"), steps.map(({ drawn }) => make("td", { class: "lab-token" }, drawn))),
        row(part.say("chance"), steps.map(({ p }) => make("td", {}, percent(p)))),
        ...[0, 1, 2, 3].map((place) => row(part.say("place", { n: place + 1 }), likely(place))),
      ),
    );
  }

  /** A row of the shares: a dot with its interval on a line from 0 to 1, and what was known. */
  function shareRow(key, name, { value, low, high }, known) {
    const track = make("div", { class: `lab-track ${name}`, "aria-hidden": "true" }, make("i", { class: "interval" }), make("i", { class: "value" }));
    for (const [property, number] of Object.entries({ value, low, high })) track.style.setProperty(`--${property}`, number);
    if (known !== undefined) {
      track.append(make("i", { class: "known" }));
      track.style.setProperty("--known", known);
    }
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, part.say(key)),
      make("td", {}, name),
      make("td", {}, track),
      make("td", { class: "lab-number" }, `${share(value)} `, make("span", {}, `${share(low)}–${share(high)}`)),
      make("td", { class: "lab-number" }, known === undefined ? "–" : share(known)),
    );
  }

  async function ask() {
    const target = Lab.targetOf(part, is.target);
    if (seed === 1) part.tell(part.say("loading"));
    const asked = { target, settings: settings(), seed: seed++ };
    const both = MODELS.map((name) => Lab.ask("ask", { ...asked, name })); // both load at once
    for (const [k, name] of MODELS.entries()) {
      const found = await both[k];
      is[`${name}-answer`].replaceChildren(make("span", {}, `S${target}=`), found.text);
      is[`${name}-verdict`].textContent = verdictOf(found, target);
      is[`${name}-verdict`].dataset.exact = found.verdict.exact;
      is[`${name}-tokens`].replaceChildren(tokensOf(found.steps));
    }
    const plain = asked.settings.temperature === 1 && asked.settings.topK === 0;
    const results = {};
    for (const name of MODELS) results[name] = await Lab.ask("shares", { ...asked, name, count: COUNT });
    const known = { gen: plain && results.gen.population, dpo: plain && results.dpo.predicted };
    is.shares.replaceChildren(
      ...["style", "exact", "both"].flatMap((key) => MODELS.map((name) => shareRow(key, name, results[name].shares[key], known[name] ? known[name][key] : undefined))),
    );
    const speed = Object.fromEntries(MODELS.map((name) => [name, Math.round(results[name].speed).toLocaleString()]));
    const lines = [part.say("answered", { count: COUNT, ...speed })];
    if (!results.gen.population) lines.push(part.say("unknown"));
    else if (!plain) lines.push(part.say("shaped"));
    part.tell(lines.join(" "));
    part.root.dataset.answered = asked.seed;
  }

  /** Ask, with the button out of reach meanwhile. */
  async function press() {
    is.go.disabled = true;
    await part.trying(ask);
    is.go.disabled = false;
  }

  is.temperature.addEventListener("input", () => {
    is.warmth.textContent = Number(is.temperature.value) === 0 ? part.say("greedy") : Number(is.temperature.value).toFixed(1);
  });
  is.form.addEventListener("submit", (event) => {
    event.preventDefault();
    press();
  });

  if ("now" in part.root.dataset) {
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      press();
    });
    seen.observe(part.root);
  }
});
