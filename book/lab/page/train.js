// DPO in the page: the form, the charts that grow with each step, and what one does with the model on its way.
"use strict";

Lab.part("train", { needsWorker: true }, (part) => {
  const { is } = part;
  const FIELDS = ["reward", "labels", "beta", "rate", "steps", "bug"];
  let run; // {settings, predicted, least, where, lines, measures, going, seconds}
  let seed = 1;

  const number = (value) => value.toFixed(2);
  const say = (name) => ({ title: part.say(name), x: part.say("x") });
  const charts = {};

  /** Empty charts, as wide as the run will be. */
  function clear(steps) {
    const x = [0, steps];
    const keys = (...names) => names.map((look) => ({ look, label: part.say(look) }));
    charts.shares = Lab.chart(is.chart_shares, { say: say("chart_shares"), x, y: [0, 1], keys: keys("style", "exact") });
    charts.kl = Lab.chart(is.chart_kl, { say: say("chart_kl"), x, y: [0, 1] });
    charts.logps = Lab.chart(is.chart_logps, { say: say("chart_logps"), x, y: [-10, -6], keys: keys("chosen", "rejected") });
    charts.loss = Lab.chart(is.chart_loss, { say: say("chart_loss"), x, y: [0.6, 0.72] });
    is.bar.max = steps;
    is.bar.value = 0;
  }

  /** What the form says, or a message about what it may not say. */
  function settingsOf() {
    const texts = Object.fromEntries(FIELDS.map((name) => [name, is[name].value.trim()]));
    const [beta, rate, steps] = [Number(texts.beta), Number(texts.rate), Number(texts.steps)];
    if (!(beta >= 0.01 && beta <= 10)) throw part.say("bad_beta", { text: texts.beta });
    if (!(rate > 0 && rate <= 0.1)) throw part.say("bad_rate", { text: texts.rate });
    if (!(Number.isInteger(steps) && steps >= 20 && steps <= 2000)) throw part.say("bad_steps", { text: texts.steps });
    return { ...texts, beta, rate, steps, seed: 0 };
  }

  function draw() {
    const { lines, measures, predicted } = run;
    const shares = ["style", "exact"].map((name) => ({
      look: name,
      dots: true,
      points: measures.map((measure) => [measure.step, measure[name].value]),
      bars: measures.map((measure) => [measure.step, measure[name].low, measure[name].high]),
    }));
    charts.shares.draw(shares, ["style", "exact"].map((look) => ({ look, value: predicted.end[look] })));
    charts.kl.draw([{ look: "loss", dots: true, points: measures.map(({ step, kl }) => [step, kl]) }], [{ look: "theory", value: predicted.end.kl }]);
    charts.logps.draw(["chosen", "rejected"].map((look) => ({ look, smooth: 20, points: lines.map((line) => [line.step, line[look]]) })));
    charts.loss.draw([{ look: "loss", smooth: 20, points: lines.map(({ step, loss }) => [step, loss]) }], [{ look: "theory", value: run.least }]);
  }

  function progress({ line, measured }) {
    if (!run) return;
    run.lines.push(line);
    run.seconds += line.seconds;
    is.bar.value = line.step;
    if (measured) run.measures.push(measured);
    draw();
    const ms = Math.round((1000 * run.seconds) / run.lines.length);
    part.tell(part.say("running", { step: line.step, steps: run.settings.steps, ms, where: part.say(run.where === "webgpu" ? "webgpu" : "wasm_name") }));
    part.root.dataset.step = line.step;
  }

  /** Buttons and fields as the state of the run asks for. */
  function show() {
    for (const name of FIELDS) is[name].disabled = Boolean(run);
    for (const name of ["ask", "folder", "pairs", "reset"]) is[name].disabled = !run;
    const ended = run && is.bar.value === run.settings.steps;
    is.go.textContent = part.say(!run ? "train" : run.going ? "pause" : "resume");
    is.go.disabled = Boolean(ended);
  }

  async function begin() {
    const settings = settingsOf();
    part.tell(part.say("loading"));
    clear(settings.steps);
    const predicted = await Lab.ask("predict", settings);
    const { where, first, least } = await Lab.ask("prepare", { settings });
    run = { settings, predicted, least, where, lines: [], measures: [first], going: false, seconds: 0 };
    draw();
  }

  async function go() {
    if (!run) await begin();
    const mine = run;
    mine.going = true;
    show();
    const { step } = await Lab.ask("go");
    if (mine !== run) return;
    mine.going = false;
    const { steps } = mine.settings;
    if (step < steps) return part.tell(part.say("paused", { step, steps }));
    const last = mine.measures.at(-1);
    part.tell(
      part.say("done", {
        steps,
        seconds: Math.round(mine.seconds),
        style: number(last.style.value),
        aim: number(mine.predicted.end.style),
        exact: number(last.exact.value),
        right: number(mine.predicted.end.exact),
      }),
    );
    part.root.dataset.done = step;
  }

  async function trying(work) {
    await part.trying(work);
    show();
  }

  is.form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (run?.going) return Lab.ask("pause");
    is.go.disabled = true; // until the run has begun
    trying(go);
  });

  is.reset.addEventListener("click", () =>
    trying(async () => {
      await Lab.ask("pause");
      run = undefined;
      clear(Number(is.steps.value));
      is.answer.textContent = "";
      part.tell("\u00a0");
      delete part.root.dataset.step;
      delete part.root.dataset.done;
    }),
  );

  is.question.addEventListener("submit", (event) => {
    event.preventDefault();
    trying(async () => {
      const target = Lab.targetOf(part, is.target);
      const { text, verdict } = await Lab.ask("ask", { name: "page", target, settings: {}, seed: seed++ });
      const step = run.measures.at(-1).step;
      const word = part.say(!verdict.wellFormed ? "malformed" : verdict.exact ? "right" : "wrong");
      is.answer.textContent = `${part.say("asked", { step, text: `S${target}=${text}` })} · ${word}`;
    });
  });

  is.folder.addEventListener("click", () => trying(async () => Lab.save("page.model.zip", (await Lab.ask("folder")).zip, "application/zip")));
  is.pairs.addEventListener("click", () => trying(async () => Lab.save("pairs.jsonl", (await Lab.ask("pairs")).text, "application/jsonl")));

  Lab.listen((message) => message.what === "progress" && progress(message));
  const legend = () => {
    const label = part.say(is.labels.value === "deterministic" ? "no_end" : "theory");
    Lab.legend(is.legend, [{ look: "theory", label, dashed: true }]);
  };
  is.labels.addEventListener("change", legend);
  legend();
  clear(Number(is.steps.value));
  show();
});
