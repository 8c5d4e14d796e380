// Drawing answers (chapter 4): dpo_core/sampling.py in JavaScript.

import { EOS } from "./tokens.js";

export const MAX_NEW_TOKENS = 32;

/** A stream of uniform numbers that a seed determines (mulberry32). */
export function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** log softmax of logits divided by a temperature; plain loops, since every token of every answer comes through here. */
export function logSoftmax(logits, temperature = 1) {
  const count = logits.length;
  let largest = -Infinity;
  for (let id = 0; id < count; id++) if (logits[id] > largest) largest = logits[id];
  const logps = new Float64Array(count);
  let total = 0;
  for (let id = 0; id < count; id++) total += Math.exp((logps[id] = (logits[id] - largest) / temperature));
  total = Math.log(total);
  for (let id = 0; id < count; id++) logps[id] -= total;
  return logps;
}

/** The distribution that the next token is drawn from. Temperature 0 is greedy; topK 0 keeps all. */
export function nextTokenProbs(logits, { temperature = 1, topK = 0 } = {}) {
  if (temperature === 0) {
    const best = logits.indexOf(Math.max(...logits));
    return Array.from(logits, (_, id) => (id === best ? 1 : 0));
  }
  const probs = logSoftmax(logits, temperature).map(Math.exp);
  if (!topK || topK >= probs.length) return probs;
  const order = Array.from(probs, (_, id) => id).sort((a, b) => probs[b] - probs[a] || a - b);
  const kept = new Set(order.slice(0, topK));
  const mass = order.slice(0, topK).reduce((sum, id) => sum + probs[id], 0);
  return probs.map((p, id) => (kept.has(id) ? p / mass : 0));
}

/** The first token whose cumulative probability exceeds u of the whole. */
export function draw(probs, u) {
  let total = 0;
  for (let id = 0; id < probs.length; id++) total += probs[id];
  let [cumulative, last] = [0, 0];
  for (let id = 0; id < probs.length; id++) {
    if (!probs[id]) continue;
    cumulative += probs[id];
    last = id;
    if (cumulative > u * total) break;
  }
  return last;
}

/** One answer to a prompt that has been read: its ids and, before each, the distribution it was drawn from. */
export function answer(model, { logits, cache }, settings, uniform) {
  const [ids, steps] = [[], []];
  const mine = model.fork(cache);
  while (ids.length < MAX_NEW_TOKENS) {
    const probs = nextTokenProbs(logits, settings);
    ids.push(draw(probs, uniform()));
    steps.push({ probs, logits });
    if (ids.at(-1) === EOS) break;
    logits = model.step(ids.at(-1), mine);
  }
  return { ids, steps };
}
