// DPO and its relatives: dpo_core/family.py and losses.preference_loss in JavaScript, for one pair, gradients included.
//
// A formula is written once, over numbers that carry their two derivatives along (forward-mode automatic
// differentiation), so that a gradient is exact to rounding. The names are those of the library.
"use strict";

(() => {
  const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  const logSigmoid = (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));

  /** A number, and its derivatives by the log-probabilities of the chosen and of the rejected answer. */
  class Dual {
    constructor(value, chosen = 0, rejected = 0) {
      Object.assign(this, { value, chosen, rejected });
    }

    /** The chain rule: a function of this number, by its value and its slope here. */
    through(value, slope) {
      return new Dual(value, slope * this.chosen, slope * this.rejected);
    }

    plus(other) {
      const { value, chosen, rejected } = dual(other);
      return new Dual(this.value + value, this.chosen + chosen, this.rejected + rejected);
    }

    minus(other) {
      return this.plus(dual(other).times(-1));
    }

    times(other) {
      const { value, chosen, rejected } = dual(other);
      return new Dual(
        this.value * value,
        this.chosen * value + this.value * chosen,
        this.rejected * value + this.value * rejected,
      );
    }

    over(number) {
      return new Dual(this.value / number, this.chosen / number, this.rejected / number);
    }

    squared() {
      return this.through(this.value ** 2, 2 * this.value);
    }

    relu() {
      return this.through(Math.max(this.value, 0), this.value > 0 ? 1 : 0);
    }

    exp() {
      return this.through(Math.exp(this.value), Math.exp(this.value));
    }

    sigmoid() {
      return this.through(sigmoid(this.value), sigmoid(this.value) * sigmoid(-this.value));
    }

    logSigmoid() {
      return this.through(logSigmoid(this.value), sigmoid(-this.value));
    }
  }

  const dual = (x) => (x instanceof Dual ? x : new Dual(x));

  /** What a loss may know of one answer of the pair. */
  class Answer {
    constructor(logps, refLogps, length) {
      Object.assign(this, { logps, refLogps, length });
    }

    /** log π - log π_ref. */
    get ratio() {
      return this.logps.minus(this.refLogps);
    }

    /** The log-ratio a token. */
    get meanRatio() {
      return this.ratio.over(this.length);
    }

    /** The log-probability a token. */
    get meanLogps() {
      return this.logps.over(this.length);
    }
  }

  /** -log σ(h); with a label between 0 and 1, the cross-entropy of σ(h) to it. */
  function logistic(h, label = 1) {
    return h.logSigmoid().times(-label).minus(h.times(-1).logSigmoid().times(1 - label));
  }

  /** log(p / (1 - p)) of the geometric mean probability of a token; held where p rounds to 1. */
  function logOdds(answer) {
    const mean = answer.meanLogps;
    const p = mean.value > -Number.EPSILON ? new Dual(-Number.EPSILON) : mean;
    const rest = -Math.expm1(p.value);
    return p.minus(p.through(Math.log(rest), -Math.exp(p.value) / rest));
  }

  /** KL between two coins: the policy's, σ(h), and the label's, 1 - ε. */
  function exo(h, epsilon) {
    const turned = h.times(-1);
    const agree = h.sigmoid().times(h.logSigmoid().minus(Math.log1p(-epsilon)));
    return agree.plus(turned.sigmoid().times(turned.logSigmoid().minus(Math.log(epsilon))));
  }

  /** A blend of the logistic and the exponential loss. */
  function discopop(h, tau) {
    const cold = h.over(tau);
    return cold.times(-1).sigmoid().times(h.logSigmoid().times(-1)).plus(cold.logSigmoid().minus(h).exp());
  }

  const margin = (c, r) => c.ratio.minus(r.ratio);
  const SMOOTHED = ["label_smoothing"];

  /** Each member by its name: the formula of a pair, c chosen, r rejected, s the settings; and what it reads. */
  const FAMILY = {
    sigmoid: { formula: (c, r, s) => logistic(margin(c, r).times(s.beta), 1 - s.label_smoothing), options: SMOOTHED },
    sigmoid_norm: {
      formula: (c, r, s) => logistic(c.meanRatio.minus(r.meanRatio).times(s.beta), 1 - s.label_smoothing),
      lengths: true,
      options: SMOOTHED,
    },
    sigmoid_sft: {
      formula: (c, r, s) => logistic(margin(c, r).times(s.beta)).minus(c.meanLogps.times(s.sft_weight)),
      lengths: true,
      options: ["sft_weight"],
    },
    robust: {
      formula: (c, r, s) => {
        const [kept, flipped] = [margin(c, r), margin(r, c)].map((m) => m.times(s.beta).logSigmoid());
        const sum = kept.times(s.label_smoothing - 1).plus(flipped.times(s.label_smoothing));
        return sum.over(1 - 2 * s.label_smoothing);
      },
      options: SMOOTHED,
    },
    hinge: { formula: (c, r, s) => dual(1).minus(margin(c, r).times(s.beta)).relu() },
    slic: { formula: (c, r, s) => dual(1).minus(c.logps.minus(r.logps).times(s.beta)).relu(), reference: false },
    ipo: { formula: (c, r, s) => c.meanRatio.minus(r.meanRatio).minus(1 / (2 * s.beta)).squared(), lengths: true },
    ipo_sum: { formula: (c, r, s) => margin(c, r).minus(1 / (2 * s.beta)).squared() },
    exo_pair: {
      formula: (c, r, s) => exo(margin(c, r).times(s.beta), s.label_smoothing),
      options: SMOOTHED,
      required: SMOOTHED,
    },
    nca_pair: {
      formula: (c, r, s) => {
        const [up, down] = [c.ratio.times(s.beta), r.ratio.times(-s.beta)];
        const halves = [up.times(-1), down].map((h) => h.logSigmoid().times(0.5));
        return up.logSigmoid().times(-1).minus(halves[0]).minus(halves[1]);
      },
    },
    bco_pair: {
      formula: (c, r, s) => c.ratio.times(s.beta).logSigmoid().times(-1).minus(r.ratio.times(-s.beta).logSigmoid()),
    },
    sppo_hard: {
      formula: (c, r, s) => c.ratio.minus(0.5 / s.beta).squared().plus(r.ratio.plus(0.5 / s.beta).squared()),
    },
    apo_zero: { formula: (c, r, s) => c.ratio.times(-s.beta).sigmoid().plus(r.ratio.times(s.beta).sigmoid()) },
    apo_down: { formula: (c, r, s) => c.ratio.times(s.beta).sigmoid().plus(margin(r, c).times(s.beta).sigmoid()) },
    discopop: {
      formula: (c, r, s) => discopop(margin(c, r).times(s.beta), s.discopop_tau),
      options: ["discopop_tau"],
    },
    simpo: {
      formula: (c, r, s) => {
        const above = c.meanLogps.minus(r.meanLogps).minus(s.gamma_beta_ratio);
        return logistic(above.times(s.beta), 1 - s.label_smoothing);
      },
      reference: false,
      lengths: true,
      options: ["gamma_beta_ratio", "label_smoothing"],
    },
    orpo: {
      formula: (c, r, s) => {
        const odds = logOdds(c).minus(logOdds(r));
        return c.meanLogps.times(-1).minus(odds.logSigmoid().times(s.beta));
      },
      reference: false,
      lengths: true,
    },
  };
  for (const [name, member] of Object.entries(FAMILY)) {
    FAMILY[name] = { reference: true, lengths: false, options: [], required: [], ...member };
  }

  const DEFAULTS = { label_smoothing: 0, gamma_beta_ratio: 0.5, discopop_tau: 0.05, sft_weight: 1 };

  /** Refuses what the library refuses: an option without effect, something missing, two kinds of doubt in one label. */
  function check(given, member) {
    const name = given.loss_type;
    for (const option of Object.keys(DEFAULTS)) {
      const set = option === "label_smoothing" ? given[option] : given[option] !== undefined;
      if (set && !member.options.includes(option)) throw new Error(`${option} has no effect on loss_type '${name}'`);
    }
    const both = (kind) => [`chosen_${kind}`, `rejected_${kind}`];
    const reference = member.reference ? ["ref_chosen_logps", "ref_rejected_logps"] : [];
    for (const need of [...reference, ...(member.lengths ? both("lengths") : [])]) {
      if (given[need] === undefined) throw new Error(`loss_type '${name}' needs ${need}`);
    }
    for (const need of member.required) if (!given[need]) throw new Error(`loss_type '${name}' needs ${need} above 0`);
    if (given.preference_prob !== undefined && given.label_smoothing && !member.required.includes("label_smoothing")) {
      throw new Error("preference_prob excludes label_smoothing; give one of them");
    }
  }

  /** What beta multiplies to make the implicit reward. */
  const score = (member, answer) => (member.reference ? answer.ratio : member.lengths ? answer.meanLogps : answer.logps);

  /** The loss of one pair, its gradient by the policy's two log-probabilities, and the implicit rewards.
   *
   * The arguments are those of dpo_core.losses.preference_loss, numbers in place of tensors.
   */
  function preferenceLoss(given) {
    const member = FAMILY[given.loss_type];
    check(given, member);
    const settings = { ...DEFAULTS, ...given };
    const chosen = new Answer(new Dual(given.policy_chosen_logps, 1, 0), given.ref_chosen_logps, given.chosen_lengths);
    const rejected = new Answer(
      new Dual(given.policy_rejected_logps, 0, 1),
      given.ref_rejected_logps,
      given.rejected_lengths,
    );
    let loss = member.formula(chosen, rejected, settings);
    const q = given.preference_prob;
    if (q !== undefined) loss = loss.times(q).plus(member.formula(rejected, chosen, settings).times(1 - q));
    const [chosenReward, rejectedReward] = [chosen, rejected].map((answer) => given.beta * score(member, answer).value);
    return { loss: loss.value, gradChosen: loss.chosen, gradRejected: loss.rejected, chosenReward, rejectedReward };
  }

  /** Of all that a reader has set, what this member takes: its options, and smoothing only where the label is certain. */
  function taken(name, { preference_prob: q, ...all }) {
    const member = FAMILY[name];
    const given = { ...all, loss_type: name, preference_prob: q === 1 ? undefined : q };
    for (const option of Object.keys(DEFAULTS)) if (!member.options.includes(option)) delete given[option];
    if (q !== undefined && q !== 1 && !member.required.includes("label_smoothing")) delete given.label_smoothing;
    return given;
  }

  Lab.losses = { FAMILY, DEFAULTS, preferenceLoss, taken, sigmoid };
})();
