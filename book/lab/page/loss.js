// The loss lab: a pair whose numbers the reader moves, and a policy over three answers that walks to its optimum. What is
// computed stands in losses.js and simplex.js; here it is drawn and listened to. Nothing is loaded.
"use strict";

(() => {
  const { FAMILY, preferenceLoss, taken, sigmoid } = Lab.losses;
  const STEPS = 200;

  /** Three decimals, or as many digits as a very large or small number needs. */
  function written(x) {
    if (!Number.isFinite(x)) return "–";
    const size = Math.abs(x);
    if (size === 0) return "0";
    return size >= 1e4 || size < 5e-4 ? x.toExponential(1) : x.toFixed(size >= 100 ? 1 : 3);
  }

  const signed = (x) => (x > 0 ? "+" : "") + x.toFixed(Math.abs(x) < 100 ? 2 : 0);
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

  /** A function that does its work once before the next frame, however often it is asked to. */
  function soon(work) {
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

  /** What an input says: a logarithmic slider is rounded to two digits, so that 0.1 and 0.5 can be met. */
  function read(input) {
    const value = input.valueAsNumber;
    return input.dataset.scale === "log" ? Number((10 ** value).toPrecision(2)) : value;
  }

  /** Put a number into its input. */
  function put(input, value) {
    input.value = input.dataset.scale === "log" ? Math.log10(value) : value;
  }

  /** Say beside a slider, and to a screen reader, what it stands at. */
  function label(place, input, text = `${read(input)}`) {
    place.querySelector(`[data-out="${input.name}"]`).textContent = text;
    input.setAttribute("aria-valuetext", text);
  }

  /** Let a handle be dragged with mouse, pen or finger: `moved` is told each pointer event. */
  function draggable(handle, { grabbed = () => {}, moved, left = () => {} }) {
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      handle.setPointerCapture(event.pointerId);
      grabbed(event);
    });
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) moved(event);
    });
    handle.addEventListener("lostpointercapture", left);
    // The page must not scroll away under the finger; touch-action is not heeded on what an SVG contains.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  }

  // ---------------------------------------------------------------- one pair

  const LANES = { chosen: 46, rejected: 122 };
  const LINE = { height: 192, side: 16, foot: 166 };

  /** The number line: two lanes, in each a handle of the policy above and one of the reference below, and the arrow. */
  class NumberLine {
    constructor(part, state, changed) {
      Object.assign(this, { part, state, changed, held: false, low: -20 });
      this.svg = Lab.make("svg", { role: "group", "aria-label": part.root.querySelector(".loss-title").textContent });
      this.axis = Lab.make("g", { class: "loss-axis" });
      this.svg.append(this.axis);
      this.arrows = Object.fromEntries(Object.keys(LANES).map((side) => [side, this.arrow(side)]));
      this.handles = [];
      for (const side of Object.keys(LANES)) for (const who of ["ref", "policy"]) this.handles.push(this.handle(who, side));
      part.is.line.append(this.svg);
      new ResizeObserver(() => this.draw()).observe(part.is.line);
    }

    arrow(side) {
      const [shaft, head] = [Lab.make("line"), Lab.make("polygon")];
      const text = Lab.make("text", { class: "loss-lane", x: 0, y: LANES[side] - 26 }, side);
      this.svg.append(Lab.make("g", { class: `loss-arrow loss-${side}` }, text, shaft, head));
      return { shaft, head };
    }

    handle(who, side) {
      const name = `${who}_${side}_logps`;
      const kind = this.part.say(who === "ref" ? "reference" : "policy");
      const mark = Lab.make("g", {
        ...{ class: `loss-handle loss-${who}`, role: "slider", tabindex: 0, "data-name": name },
        ...{ "aria-label": `${kind}, ${side}`, "aria-orientation": "horizontal", "aria-valuemax": 0 },
      });
      const down = who === "ref" ? 1 : -1;
      const shape = `0,${3 * down} 6,${10 * down} -6,${10 * down}`;
      mark.append(
        Lab.make("rect", { class: "loss-touch", x: -17, y: down > 0 ? 0 : -32, width: 34, height: 32 }),
        Lab.make("polygon", { points: shape }),
        Lab.make("circle", { cy: 15 * down, r: 7 }),
      );
      mark.addEventListener("keydown", (event) => this.pressed(event, name));
      draggable(mark, {
        grabbed: () => {
          this.held = true;
          mark.focus({ preventScroll: true });
        },
        moved: (event) => this.set(name, this.across.invert(event.clientX - this.svg.getBoundingClientRect().left)),
        left: () => {
          this.held = false;
          this.draw();
        },
      });
      this.svg.append(mark);
      return { mark, name, side };
    }

    pressed(event, name) {
      const steps = { ArrowRight: 0.1, ArrowUp: 0.1, ArrowLeft: -0.1, ArrowDown: -0.1, PageUp: 1, PageDown: -1 };
      const to = { Home: this.low, End: 0 }[event.key] ?? this.state[name] + steps[event.key];
      if (Number.isNaN(to)) return;
      event.preventDefault();
      this.set(name, to);
    }

    set(name, value) {
      this.state[name] = Number(clamp(value, this.low, 0).toFixed(1));
      this.changed(name);
    }

    /** The line reaches as far down as the numbers need; it stays as it is while it fits, or while a handle is held. */
    scale() {
      const least = Math.min(...this.handles.map(({ name }) => this.state[name]));
      const fits = least >= this.low && least < 0.4 * this.low;
      if (!this.held && !fits) this.low = least < -20 ? Math.floor(least / 8) * 10 : -20;
      this.width = this.part.is.line.clientWidth;
      this.across = d3.scaleLinear([this.low, 0], [LINE.side, this.width - LINE.side]);
    }

    draw() {
      this.scale();
      const { across, width } = this;
      for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${LINE.height}`, height: LINE.height })) {
        this.svg.setAttribute(key, value);
      }
      this.axis.replaceChildren(
        ...across.ticks(width < 420 ? 4 : 8).flatMap((tick) => [
          Lab.make("line", { x1: across(tick), x2: across(tick), y1: 26, y2: LINE.foot }),
          Lab.make("text", { x: across(tick), y: LINE.height - 8, "text-anchor": "middle" }, `${tick}`),
        ]),
        ...Object.values(LANES).map((y) => Lab.make("line", { class: "loss-rail", x1: 0, x2: width, y1: y, y2: y })),
      );
      for (const { mark, name, side } of this.handles) {
        const value = this.state[name];
        mark.setAttribute("transform", `translate(${across(value)} ${LANES[side]})`);
        mark.setAttribute("aria-valuemin", this.low);
        mark.setAttribute("aria-valuenow", value);
        mark.setAttribute("aria-valuetext", this.part.say("nats", { value, ratio: signed(ratio(this.state, side)) }));
      }
      for (const [side, { shaft, head }] of Object.entries(this.arrows)) this.point(side, shaft, head);
    }

    point(side, shaft, head) {
      const y = LANES[side];
      const [from, to] = ["ref", "policy"].map((who) => this.across(this.state[`${who}_${side}_logps`]));
      const back = Math.sign(to - from) * Math.min(9, Math.abs(to - from));
      for (const [key, value] of Object.entries({ x1: from, x2: to - back, y1: y, y2: y })) shaft.setAttribute(key, value);
      head.setAttribute("points", `${to},${y} ${to - back},${y - 5} ${to - back},${y + 5}`);
    }
  }

  const ratio = (state, side) => state[`policy_${side}_logps`] - state[`ref_${side}_logps`];
  const margin = (state) => state.beta * (ratio(state, "chosen") - ratio(state, "rejected"));

  /** The loss of one member for what the reader has set; NaN where it needs a setting that is 0. */
  function priced(name, state) {
    if (FAMILY[name].required.some((option) => !state[option])) return { loss: NaN, gradChosen: NaN, gradRejected: NaN };
    return preferenceLoss(taken(name, state));
  }

  /** Loss and slope of one member over the margin: the policy's log-probabilities move apart from where they are. */
  function curve(name, state) {
    const here = margin(state);
    const [from, to] = [Math.min(-4, here - 1), Math.max(4, here + 1)];
    const at = (h) => {
      const apart = (h - here) / state.beta / 2;
      const [chosen, rejected] = [state.policy_chosen_logps + apart, state.policy_rejected_logps - apart];
      if (name === "orpo" && Math.max(chosen, rejected) > 0) return undefined; // no odds beyond probability 1
      return priced(name, { ...state, policy_chosen_logps: chosen, policy_rejected_logps: rejected });
    };
    const seen = Array.from({ length: 241 }, (_, k) => from + ((to - from) * k) / 240)
      .map((h) => [h, at(h)])
      .filter(([, pair]) => pair && Number.isFinite(pair.loss));
    const slope = ({ gradChosen, gradRejected }) => (gradChosen - gradRejected) / (2 * state.beta);
    const whole = { loss: seen.map(([h, pair]) => [h, pair.loss]), slope: seen.map(([h, pair]) => [h, slope(pair)]) };
    const now = priced(name, state);
    const dot = Number.isFinite(now.loss);
    return { ...whole, dots: { loss: dot ? [[here, now.loss]] : [], slope: dot ? [[here, slope(now)]] : [] } };
  }

  function setUpPair(part) {
    const { is } = part;
    const inputs = [...is.pair.querySelectorAll("input")];
    const state = Object.fromEntries(inputs.map((input) => [input.name, read(input)]));

    function drawCurve() {
      const name = is.member.value;
      const { dots, ...whole } = curve(name, state);
      for (const [what, title] of [["loss", "curve"], ["slope", "curveSlope"]]) {
        const say = { title: part.say(title, { name }), x: part.words.margin };
        const { draw } = Lab.chart(is[what === "loss" ? "curve" : "slope"], { say, x: [-4, 4], y: [0, 0] });
        draw([
          { points: whole[what], look: "loss" },
          { points: dots[what], look: "loss now", dots: true },
        ]);
      }
    }

    function drawTable() {
      for (const row of is.pair.querySelectorAll("[data-member]")) {
        const name = row.dataset.member;
        const { loss, gradChosen, gradRejected } = priced(name, state);
        const texts = Number.isNaN(loss) ? [part.words.needs, "–", "–"] : [loss, gradChosen, gradRejected].map(written);
        texts.forEach((text, k) => (row.cells[k + 1].textContent = text));
        row.classList.toggle("loss-picked", name === is.member.value);
      }
    }

    const line = new NumberLine(part, state, changed);
    const draw = soon(() => {
      line.draw();
      for (const side of ["chosen", "rejected"]) is[`${side}-ratio`].textContent = signed(ratio(state, side));
      for (const input of inputs) if (input.type === "range") label(is.pair, input);
      const both = state.preference_prob < 1 && state.label_smoothing > 0;
      is.softened.textContent = both ? part.words.softened : "";
      const { loss, gradChosen, gradRejected } = priced("sigmoid", state);
      const h = margin(state);
      is.margin.textContent = written(h);
      is.predicts.textContent = part.say("predicts", { p: written(sigmoid(h)) });
      is.loss.textContent = written(loss);
      is["chosen-slope"].textContent = written(gradChosen);
      is["rejected-slope"].textContent = written(gradRejected);
      drawTable();
      drawCurve();
    });

    /** The state has changed; the inputs other than the one that is being typed in follow. */
    function changed(name) {
      const input = inputs.find((each) => each.name === name);
      if (input !== document.activeElement) put(input, state[name]);
      draw();
    }

    for (const input of inputs) {
      input.addEventListener("input", () => {
        if (input.validity.badInput || input.validity.rangeOverflow || input.validity.rangeUnderflow) return;
        if (input.value === "" || (input.name.endsWith("_lengths") && input.value % 1)) return;
        state[input.name] = read(input);
        draw();
      });
      input.addEventListener("change", () => put(input, state[input.name])); // what could not be read goes
    }
    is.member.addEventListener("change", draw);
    draw();
    return state;
  }

  // ---------------------------------------------------------------- three answers

  const CORNERS = [[170, 26], [20, 285.8], [320, 285.8]];
  const NAMES = [[170, 16, "middle"], [20, 306, "start"], [320, 306, "end"]];
  const LEAST = 0.01; // of the reference for any answer: what it never writes, no optimum writes

  const place = (probs) => [0, 1].map((axis) => probs.reduce((total, p, i) => total + p * CORNERS[i][axis], 0));

  /** The policy at a point of the picture, kept inside the triangle, in hundredths. */
  function inside(x, y) {
    const top = (CORNERS[1][1] - y) / (CORNERS[1][1] - CORNERS[0][1]);
    const right = (x - CORNERS[1][0] - top * 150) / 300;
    const kept = [top, 1 - top - right, right].map((p) => Math.max(p, LEAST));
    const total = kept.reduce((sum, p) => sum + p);
    const [first, second] = kept.map((p) => Math.max(LEAST, Math.round((100 * p) / total) / 100));
    return rest([first, Math.min(second, 1 - first - LEAST), 0]);
  }

  /** The third probability from the first two. */
  const rest = ([first, second]) => [first, second, 1 - first - second];

  /** The probabilities with the i-th set to p: the others share what is left as they did. */
  function withOne(probs, i, p) {
    const others = 1 - probs[i];
    const shared = probs.map((old, k) => (k === i ? p : Math.max(LEAST, (old * (1 - p)) / others)));
    const total = shared.reduce((sum, value) => sum + value) - p;
    return shared.map((value, k) => (k === i ? p : (value * (1 - p)) / total));
  }

  /** A learning rate at which this loss walks in some two hundred steps: those of a margin β m by 1 / β². */
  function suitable(name, beta) {
    if (["ipo", "ipo_sum", "sppo_hard"].includes(name)) return 0.05;
    if (["orpo", "sigmoid_sft"].includes(name)) return 0.5;
    return (name === "discopop" ? 0.1 : 0.5) / beta ** 2;
  }

  function setUpSimplex(part, settings) {
    const { is } = part;
    const fields = Object.fromEntries([...is.simplex.querySelectorAll("input, select")].map((field) => [field.name, field]));
    const simplex = Lab.simplex;
    let probs = [1, 2, 3].map((n) => read(fields[`probability_${n}`]));
    probs = probs.map((p) => p / probs.reduce((sum, each) => sum + each));
    let solved; // problem, optimum, path: what is computed from what the reader has set
    let playing = false;

    const still = matchMedia("(prefers-reduced-motion: reduce)");
    is.corners.append(
      ...NAMES.map(([x, y, anchor], i) => Lab.make("text", { x, y, "text-anchor": anchor }, part.say("answer", { n: i + 1 }))),
    );

    function solve() {
      const problem = { refLogps: probs.map(Math.log), reward: [1, 2, 3].map((n) => read(fields[`reward_${n}`])) };
      const beta = read(fields.leash);
      const name = fields.loss_type.value;
      const given = taken(name, { ...settings, beta, preference_prob: 1 });
      const usable = FAMILY[name].required.every((option) => given[option]);
      const walk = { ...given, labels: fields.labels.value, rate: read(fields.rate), steps: STEPS };
      const path = usable ? simplex.path(problem, walk) : [{ logps: problem.refLogps }];
      solved = { problem, beta, path, usable, optimum: simplex.optimum(problem, beta) };
      fields.step.max = Math.max(1, path.length - 1);
      const levels = simplex.levels(problem, beta, 14);
      const outline = d3.line(([x]) => x, ([, y]) => y);
      is.levels.replaceChildren(
        ...levels.map(({ lines }) => Lab.make("path", { d: lines.map((line) => `${outline(line.map(place))}Z`).join("") })),
      );
    }

    const position = () => Math.min(fields.step.valueAsNumber, solved.path.length - 1);
    const at = (element, probabilities) => element.setAttribute("transform", `translate(${place(probabilities)})`);
    const exp = (logps) => logps.map(Math.exp);

    /** The policies as a table, and the sentence on how far is left. */
    function drawTable(policies) {
      const { problem, beta } = solved;
      for (const row of is.simplex.querySelectorAll("[data-row]")) {
        const logps = policies[row.dataset.row];
        const values = [...exp(logps), simplex.objective(logps, problem, beta), simplex.kl(logps, problem.refLogps)];
        values.forEach((value, k) => (row.cells[k + 1].textContent = (Math.abs(value) < 5e-7 ? 0 : value).toFixed(3)));
      }
      is.short.textContent = part.say("short", { gap: written(beta * simplex.kl(policies.policy, policies.optimum)) });
    }

    /** What the labels and the loss make of the path, said once for each choice. */
    function note() {
      const { path, usable } = solved;
      if (!usable) return part.say("wants", { name: fields.loss_type.value });
      if (path.length === 1) return part.words.ties;
      return part.words[fields.loss_type.value === "sigmoid" && !settings.label_smoothing ? fields.labels.value : "another"];
    }

    function drawStep() {
      const { problem, path, optimum } = solved;
      const k = position();
      const policies = { reference: problem.refLogps, policy: path[k].logps, optimum };
      const walked = path.map(({ logps }) => place(exp(logps)));
      const outline = d3.line(([x]) => x, ([, y]) => y);
      is.walked.setAttribute("d", outline(walked.slice(0, k + 1)));
      is.rest.setAttribute("d", outline(walked.slice(k)));
      for (const name of ["reference", "policy", "optimum"]) at(is[name], exp(policies[name]));
      drawTable(policies);
      const text = part.say("step", { k, n: path.length - 1 });
      label(is.simplex, fields.step, text);
      const short = (logps) => exp(logps).map((p) => p.toFixed(2)).join(", ");
      const spoken = { ref: short(problem.refLogps), optimum: short(optimum), policy: short(path[k].logps), k };
      is.triangle.setAttribute("aria-label", part.say("picture", spoken));
      const told = note();
      if (is.status.textContent !== told) part.tell(told);
    }

    const drawAll = soon(() => {
      probs.forEach((p, i) => {
        put(fields[`probability_${i + 1}`], p);
        label(is.simplex, fields[`probability_${i + 1}`], p.toFixed(2));
      });
      for (const name of ["reward_1", "reward_2", "reward_3", "leash", "rate"]) label(is.simplex, fields[name]);
      solve();
      drawStep();
    });

    function pause() {
      playing = false;
      is.play.textContent = part.words.play;
    }

    function go(step) {
      fields.step.value = step;
      drawStep();
    }

    function frame() {
      if (!playing) return;
      go(position() + 1);
      if (position() >= solved.path.length - 1) pause();
      else requestAnimationFrame(frame);
    }

    is.play.addEventListener("click", () => {
      if (playing) return pause();
      const last = solved.path.length - 1;
      if (still.matches) return go(last);
      if (position() === last) go(0);
      playing = true;
      is.play.textContent = part.words.pause;
      requestAnimationFrame(frame);
    });
    is.forward.addEventListener("click", () => (pause(), go(position() + 1)));
    is.reset.addEventListener("click", () => (pause(), go(0)));
    fields.step.addEventListener("input", () => (pause(), drawStep()));
    for (const n of [1, 2, 3]) {
      fields[`probability_${n}`].addEventListener("input", ({ target }) => {
        probs = withOne(probs, n - 1, read(target));
        drawAll();
      });
      fields[`reward_${n}`].addEventListener("input", drawAll);
    }
    for (const name of ["leash", "loss_type"]) {
      fields[name].addEventListener("input", () => {
        put(fields.rate, suitable(fields.loss_type.value, read(fields.leash)));
        drawAll();
      });
    }
    for (const name of ["labels", "rate"]) fields[name].addEventListener("input", drawAll);
    draggable(is.reference, {
      moved: ({ clientX, clientY }) => {
        const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(is.triangle.getScreenCTM().inverse());
        probs = inside(x, y);
        drawAll();
      },
    });
    is.pair.addEventListener("input", drawAll); // the settings above
    drawAll();
  }

  Lab.part("loss", { needsWorker: false }, (part) => {
    const settings = setUpPair(part);
    setUpSimplex(part, settings);
  });
})();
