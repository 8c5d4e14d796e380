// One run of DPO in the page: the shipped gen.model, its own answers as pairs, the book's optimiser. Everything that a
// step changes is here, so a run can pause, go on and be asked.

import { init, defaultDevice, jit, numpy as np, tree } from "../vendor/jax/index.js";
import { Llama } from "./llama.js";
import * as network from "./network.js";
import * as optimizer from "./optimizer.js";
import { BUGS, labelled, rowsOf } from "./pairs.js";
import { answer, logSoftmax, uniforms } from "./sampling.js";
import { judge } from "./task.js";
import { encode, decode } from "./tokens.js";

export const BATCH = 32;
export const WARMUP = 20;
export const ASKED = 200; // answers of each measurement

export const DEVICES = ["webgpu", "wasm"]; // the faster first

/** Whether WebGPU would be computed by software, which is slower than WebAssembly. */
async function isImitated() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return !adapter || Boolean(adapter.info?.isFallbackAdapter) || /swiftshader|llvmpipe/i.test(`${adapter.info?.architecture} ${adapter.info?.description}`);
}

/** Let what follows be computed on a device; false where there is none of that name. */
export async function startDevice(name) {
  if (name === "webgpu" && (await isImitated())) return false;
  const there = await init(name).catch(() => []);
  if (there.includes(name)) defaultDevice(name);
  return there.includes(name);
}

/** A run on the first device that is there and computes what llama.js computes: {training, where}. */
export async function begin(config, tensors, answers, settings, devices = DEVICES) {
  for (const where of devices) {
    if (!(await startDevice(where))) continue;
    const training = new Training(config, tensors, answers, settings);
    if (await training.agrees().catch(() => false)) return { training, where };
    training.dispose();
  }
  throw new Error(`no device that computes rightly; tried ${devices.join(", ")}`);
}

/** log π(answer | prompt) by llama.js. */
export function score(model, prompt, text) {
  let { logits, cache } = model.read(encode(prompt));
  let sum = 0;
  for (const id of encode(text)) {
    sum += logSoftmax(logits)[id];
    logits = model.step(id, cache);
  }
  return sum;
}

/** Answers of a model to prompts of the population: shares, and the KL to the reference, token by token along them. */
export function measure(model, reference, world, count, seed) {
  const uniform = uniforms(seed);
  const read = new Map(); // what each model made of a prompt
  const counts = { style: 0, exact: 0, both: 0, wellFormed: 0 };
  let kl = 0;
  for (let k = 0; k < count; k++) {
    const prompt = `S${pick(world, (k + uniform()) / count)}=`;
    if (!read.has(prompt)) read.set(prompt, [model, reference].map((m) => m.read(encode(prompt))));
    const [mine, theirs] = read.get(prompt);
    const { ids, steps } = answer(model, mine, {}, uniform);
    const cache = reference.fork(theirs.cache);
    let { logits } = theirs;
    for (const [t, id] of ids.entries()) {
      const [p, q] = [logSoftmax(steps[t].logits), logSoftmax(logits)];
      for (let v = 0; v < p.length; v++) kl += (Math.exp(p[v]) * (p[v] - q[v])) / count;
      if (t + 1 < ids.length) logits = reference.step(id, cache);
    }
    const found = judge(prompt, decode(ids));
    counts.style += found.style;
    counts.exact += found.exact;
    counts.both += found.style && found.exact;
    counts.wellFormed += found.wellFormed;
  }
  return { count, kl, ...counts };
}

/** The population's target at a place between 0 and 1 of its distribution: stratified draws differ less. */
function pick(world, place) {
  let sum = 0;
  for (const { target, probability } of world.prompts) if ((sum += probability) > place) return target;
  return world.prompts.at(-1).target;
}

export class Training {
  /** settings: {beta, reward, labels, rate, steps, bug, seed}. */
  constructor(config, tensors, answers, settings) {
    Object.assign(this, { config, settings, answers: answers.pairs });
    this.bug = BUGS[settings.bug];
    this.reference = new Llama(config, tensors);
    this.pairs = labelled(answers.pairs, settings.reward, settings.labels, settings.seed);
    this.positions = answers.longest - 1; // nobody reads what comes after the last token
    this.step = 0;
    this.fixed = network.frame(config, this.positions);
    this.weights = network.pack(config, tensors);
    this.first = tree.ref(this.weights); // the reference
    this.moments = optimizer.start(this.weights);
    this.learn = jit(network.lossAndGradient(config));
    this.logps = jit((weights, batch, fixed) => network.answerLogps(config, weights, batch, fixed));
    this.update = jit(optimizer.update);
  }

  /** Whether the device finds the log-probabilities that plain loops find. */
  async agrees() {
    const [pair] = this.pairs;
    const found = this.logps(tree.ref(this.weights), network.batchOf(rowsOf(pair), this.positions), tree.ref(this.fixed));
    const right = [pair.chosen, pair.rejected].map((text) => score(this.reference, pair.prompt, text));
    return (await found.data()).every((logp, k) => Math.abs(logp - right[k]) < 1e-3);
  }

  /** The pairs of a step: in order, again from the start when they are used up. */
  pairsAt(step) {
    return Array.from({ length: BATCH }, (_, k) => this.pairs[(step * BATCH + k) % this.pairs.length]);
  }

  /** The least expected loss of any policy: what the labels themselves leave undecided, the mean of their entropy.
   *  A deterministic judge leaves nothing. */
  least() {
    const { reward, labels } = this.settings;
    if (labels === "deterministic") return 0;
    const surely = labelled(this.answers, reward, "soft").map(({ prob }) => prob);
    return surely.reduce((sum, q) => sum - q * Math.log(q) - (1 - q) * Math.log(1 - q), 0) / surely.length;
  }

  /** Loss and gradient of a batch at the present weights: {loss, logps, gradients}; arrays, not yet numbers. */
  learnFrom(pairs) {
    const { beta } = this.settings;
    const batch = network.batchOf(pairs.flatMap((pair) => rowsOf(pair, this.bug)), this.positions, this.bug);
    const judge = this.bug.reference === "policy" ? this.weights : this.first;
    const refLogps = this.logps(tree.ref(judge), tree.ref(batch), tree.ref(this.fixed)).reshape([pairs.length, 2]);
    const strength = np.array([this.bug.beta?.(beta) ?? beta]);
    const prob = np.array(pairs.map(({ prob }) => prob));
    const [[loss, logps], gradients] = this.learn(tree.ref(this.weights), batch, refLogps, strength, prob, tree.ref(this.fixed));
    return { loss, logps, gradients };
  }

  /** One step: {step, loss, chosen, rejected}, the log-probabilities as means over the batch. */
  async advance() {
    const { rate, steps } = this.settings;
    const { loss, logps, gradients } = this.learnFrom(this.pairsAt(this.step));
    const factor = optimizer.schedule(this.step, steps, WARMUP);
    const corrections = [0.9, 0.95].map((beta) => 1 - beta ** (this.step + 1));
    const next = this.update(this.weights, this.moments, gradients, np.array([rate * factor]), np.array(corrections));
    Object.assign(this, next);
    const [value, both] = [await loss.data(), await logps.data()];
    const mean = (side) => both.reduce((sum, logp, k) => sum + (k % 2 === side ? logp : 0), 0) / BATCH;
    if (!Number.isFinite(value[0])) throw new Error(`loss at step ${this.step} is not finite`);
    this.step += 1;
    return { step: this.step, loss: value[0], chosen: mean(0), rejected: mean(1) };
  }

  /** The policy as it is now, to be asked. */
  async model() {
    return new Llama(this.config, await network.unpack(this.config, this.weights));
  }

  /** Free what the run holds. */
  dispose() {
    for (const held of [this.weights, this.first, this.moments, this.fixed]) tree.dispose(held);
  }
}
