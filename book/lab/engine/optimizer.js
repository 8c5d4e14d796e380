// The optimiser of the book's recipe (dpo_core/optim.py): Muon for the matrices inside the layers, AdamW at 0.3 times
// the learning rate for embedding, head and norms.

import { numpy as np, tree } from "../vendor/jax/index.js";

const [MOMENTUM, BETA1, BETA2, EPS] = [0.95, 0.9, 0.95, 1e-8];
const REST = ["norms", "embedding", "head"];

/** Push the singular values of each matrix, (N, R, R), towards 1: a quintic Newton-Schulz iteration (Jordan et al. 2024). */
function orthogonalise(x) {
  const [a, b, c] = [3.4445, -4.775, 2.0315];
  const norm = np.sqrt(np.square(x.ref).sum([1, 2], { keepdims: true }));
  x = x.mul(np.reciprocal(norm.add(1e-7)));
  for (let round = 0; round < 5; round++) {
    const gram = np.matmul(x.ref, x.ref.transpose([0, 2, 1]));
    const both = gram.ref.mul(b).add(np.matmul(gram.ref, gram).mul(c));
    x = x.ref.mul(a).add(np.matmul(both, x));
  }
  return x;
}

/** Moments of zero for these weights, which stay alive. */
export const start = (weights) => ({
  velocity: np.zeros(weights.inside.shape),
  first: Object.fromEntries(REST.map((part) => [part, np.zeros(weights[part].shape)])),
  second: Object.fromEntries(REST.map((part) => [part, np.zeros(weights[part].shape)])),
});

/** One update: {weights, moments}. `rate` is the learning rate; `corrections` are 1 - β₁ᵗ and 1 - β₂ᵗ, [2]. */
export function update(weights, moments, gradients, rate, corrections) {
  const velocity = moments.velocity.mul(MOMENTUM).add(gradients.inside.ref.mul(1 - MOMENTUM));
  const nesterov = gradients.inside.mul(1 - MOMENTUM).add(velocity.ref.mul(MOMENTUM));
  const next = { weights: { inside: weights.inside.sub(orthogonalise(nesterov).mul(rate.ref)) }, moments: { velocity, first: {}, second: {} } };
  for (const part of REST) {
    const first = moments.first[part].mul(BETA1).add(gradients[part].ref.mul(1 - BETA1));
    const second = moments.second[part].mul(BETA2).add(np.square(gradients[part]).mul(1 - BETA2));
    const size = np.sqrt(second.ref.div(corrections.ref.slice(1))).add(EPS);
    const step = first.ref.div(corrections.ref.slice(0)).div(size);
    next.weights[part] = weights[part].sub(step.mul(rate.ref).mul(0.3));
    next.moments.first[part] = first;
    next.moments.second[part] = second;
  }
  tree.dispose({ rate, corrections });
  return next;
}

/** The schedule as a share of its peak: linear warm-up, then cosine to 0 at `steps`. */
export function schedule(step, steps, warmup) {
  if (step < warmup) return (step + 1) / warmup;
  return 0.5 * (1 + Math.cos((Math.PI * (step - warmup)) / Math.max(1, steps - warmup)));
}
