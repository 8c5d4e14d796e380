// The same Llama as llama.js, written with @jax-js/jax so that it can be differentiated: whole batches, the
// log-probabilities of answers, the DPO loss and its gradient. A reference (`.ref`) is kept for each further use of an
// array: every function of the library uses its arguments up.
//
// Shapes: N rows (two a pair), T positions, V vocabulary, D width, H heads, K width of a head, L layers.

import { nn, numpy as np, tree, valueAndGrad } from "../vendor/jax/index.js";
import { VOCABULARY } from "./tokens.js";

const INSIDE = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

/** Where each tensor of a checkpoint stands among the weights that train: matrices inside the layers, (7L, D, D), are
 *  one array, since Muon turns them together, and so are the norms, (2L + 1, D). */
function places(layers) {
  const inside = [];
  const norms = [];
  for (let layer = 0; layer < layers; layer++) {
    for (const name of INSIDE) inside.push(`model.layers.${layer}.${name}.weight`);
    for (const name of ["input_layernorm", "post_attention_layernorm"]) norms.push(`model.layers.${layer}.${name}.weight`);
  }
  norms.push("model.norm.weight");
  return { inside, norms, embedding: ["model.embed_tokens.weight"], head: ["lm_head.weight"] };
}

/** The weights of a checkpoint as arrays. */
export function pack(config, tensors) {
  const { hidden_size: D, intermediate_size: M, num_hidden_layers: layers } = config;
  if (M !== D) throw new RangeError(`intermediate_size is ${M}; the lab's network needs hidden_size, ${D}`);
  const shapes = { inside: [-1, D, D], norms: [-1, D], embedding: [-1, D], head: [-1, D] };
  return Object.fromEntries(
    Object.entries(places(layers)).map(([part, names]) => {
      const all = new Float32Array(names.reduce((sum, name) => sum + tensors[name].data.length, 0));
      let at = 0;
      for (const name of names) {
        all.set(tensors[name].data, at);
        at += tensors[name].data.length;
      }
      return [part, np.array(all).reshape(shapes[part])];
    }),
  );
}

/** The tensors of a checkpoint, from weights that stay alive. */
export async function unpack(config, weights) {
  const { hidden_size: D, num_hidden_layers: layers, vocab_size: V } = config;
  const sizes = { inside: [D, D], norms: [D], embedding: [V, D], head: [V, D] };
  const tensors = {};
  for (const [part, names] of Object.entries(places(layers))) {
    const all = await weights[part].ref.data();
    const size = sizes[part].reduce((a, b) => a * b);
    for (const [k, name] of names.entries()) tensors[name] = { shape: sizes[part], data: all.slice(k * size, (k + 1) * size) };
  }
  return tensors;
}

/** x / sqrt(mean(x²) + eps) · weight, over the last axis. */
function normed(x, weight, eps) {
  const size = np.square(x.ref).mean(-1, { keepdims: true }).add(eps);
  return x.mul(np.reciprocal(np.sqrt(size))).mul(weight);
}

const project = (x, weight) => np.matmul(x, weight.transpose());

/** Turn pairs of coordinates (i, i + K/2) of x, (N, T, H, K). */
function turn(x, { cos, sin, swap }) {
  const turned = np.matmul(x.ref, swap.ref).mul(sin.ref);
  return x.mul(cos.ref).add(turned);
}

/** What every batch of T positions shares: tables of RoPE, the exchange of a head's halves, the causal mask. */
export function frame(config, positions) {
  const [size, half] = [config.hidden_size / config.num_attention_heads, config.hidden_size / config.num_attention_heads / 2];
  const angles = Array.from({ length: positions * size }, (_, k) => Math.floor(k / size) * config.rope_theta ** (-((k % size) % half) / half));
  const table = (f) => np.array(Float32Array.from(angles, f)).reshape([1, positions, 1, size]);
  const swap = new Float32Array(size * size);
  for (let i = 0; i < half; i++) [swap[(i + half) * size + i], swap[i * size + i + half]] = [-1, 1];
  const mask = Float32Array.from({ length: positions ** 2 }, (_, k) => (k % positions > Math.floor(k / positions) ? -1e9 : 0));
  return {
    cos: table(Math.cos),
    sin: table(Math.sin),
    swap: np.array(swap).reshape([size, size]),
    mask: np.array(mask).reshape([1, 1, positions, positions]),
  };
}

/** The log-probability of each row's answer, (N,).
 *
 * inputs, targets: (N, T, V), one-hot: the token at each position, and the one that is scored there.
 * counted: (N, T), how much each position counts: 1 on the answer's tokens.
 */
export function answerLogps(config, weights, { inputs, targets, counted }, fixed) {
  const { hidden_size: D, num_attention_heads: H, num_hidden_layers: layers, rms_norm_eps: eps } = config;
  const [N, T] = inputs.shape;
  const heads = (x) => x.reshape([N, T, H, D / H]);
  const norm = (k) => weights.norms.ref.slice(k);
  let x = np.matmul(inputs, weights.embedding);
  for (let layer = 0; layer < layers; layer++) {
    const matrix = (k) => weights.inside.ref.slice(INSIDE.length * layer + k);
    const h = normed(x.ref, norm(2 * layer), eps);
    const query = turn(heads(project(h.ref, matrix(0))), fixed).transpose([0, 2, 1, 3]);
    const key = turn(heads(project(h.ref, matrix(1))), fixed).transpose([0, 2, 3, 1]);
    const value = heads(project(h, matrix(2))).transpose([0, 2, 1, 3]);
    const scores = np.matmul(query, key).mul(1 / Math.sqrt(D / H)).add(fixed.mask.ref);
    const mixed = np.matmul(nn.softmax(scores, -1), value).transpose([0, 2, 1, 3]).reshape([N, T, D]);
    x = x.add(project(mixed, matrix(3)));
    const m = normed(x.ref, norm(2 * layer + 1), eps);
    const gate = nn.silu(project(m.ref, matrix(4))).mul(project(m, matrix(5)));
    x = x.add(project(gate, matrix(6)));
  }
  const logits = project(normed(x, norm(2 * layers), eps), weights.head);
  tree.dispose({ inside: weights.inside, norms: weights.norms });
  tree.dispose(fixed);
  return nn.logSoftmax(logits, -1).mul(targets).sum(-1).mul(counted).sum(-1);
}

/** Rows as arrays. A row is {ids, weights}: `weights[t]` says how much the score of token t counts (never of token 0).
 *  `shift` false scores the logits at t against token t itself, as one bug of the museum does. */
export function batchOf(rows, positions, { shift = true } = {}) {
  const V = VOCABULARY.length;
  const [inputs, targets] = [0, 1].map(() => new Float32Array(rows.length * positions * V));
  const counted = new Float32Array(rows.length * positions);
  for (const [r, { ids, weights }] of rows.entries()) {
    if (ids.length > positions + 1) throw new RangeError(`a row of ${ids.length} tokens; there are ${positions + 1} places`);
    for (let t = 0; t < positions; t++) {
      const at = r * positions + t;
      inputs[at * V + (ids[t] ?? 0)] = 1;
      const scored = shift ? t + 1 : t;
      targets[at * V + (ids[scored] ?? 0)] = 1;
      counted[at] = weights[scored] ?? 0;
    }
  }
  const shape = [rows.length, positions];
  return {
    inputs: np.array(inputs).reshape([...shape, V]),
    targets: np.array(targets).reshape([...shape, V]),
    counted: np.array(counted).reshape(shape),
  };
}

/** log(1 + exp(x)) = max(x, 0) + log(1 + e) with e = exp(-|x|), and log(1 + e) = 2 artanh(s) with s = e / (2 + e), at
 *  most 1/3, as a series. The library's own overflows beyond 88, and its logarithm is 1e-5 off just below 2, where every
 *  run begins. */
function softplus(x) {
  const e = np.exp(np.abs(x.ref).neg());
  const s = e.ref.div(e.add(2));
  const square = np.square(s.ref);
  let series = np.fullLike(s.ref, 1 / 17);
  for (let odd = 15; odd > 0; odd -= 2) series = series.mul(square.ref).add(1 / odd);
  square.dispose();
  return np.maximum(x, 0).add(series.mul(s).mul(2));
}

/** The DPO loss of pairs, from the log-probabilities of their answers, (B, 2) each, chosen first (Rafailov et al. 2023,
 *  eq. 7); `prob`, (B,), is how surely chosen is preferred. */
export function dpoLoss(logps, refLogps, beta, prob) {
  const ratio = logps.sub(refLogps);
  const h = ratio.ref.slice([], 0).sub(ratio.slice([], 1)).mul(beta);
  const wins = softplus(h.ref.neg()).mul(prob.ref);
  return wins.add(softplus(h).mul(np.subtract(1, prob))).mean();
}

/** (weights, batch, refLogps, beta, prob, fixed) -> [[loss, logps], gradients]: what one step needs. */
export const lossAndGradient = (config) =>
  valueAndGrad(
    (weights, batch, refLogps, beta, prob, fixed) => {
      const logps = answerLogps(config, weights, batch, fixed).reshape(refLogps.shape);
      return [dpoLoss(logps.ref, refLogps, beta, prob), logps];
    },
    { hasAux: true },
  );
