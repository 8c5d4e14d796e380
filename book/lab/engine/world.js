// What is known before anything is sampled: the population's habits (world.json, written by Python from BookTask) and
// the closed form of chapter 6 for them. Classes stand as in dpo_core/theory.py: [style][exact], read row by row.

const Z95 = 1.959963984540054; // the 97.5 % quantile of the standard normal

/** A share of n trials with Wilson's interval. */
export function wilson(successes, n) {
  const share = successes / n;
  const scale = 1 + Z95 ** 2 / n;
  const center = (share + Z95 ** 2 / (2 * n)) / scale;
  const half = (Z95 * Math.sqrt((share * (1 - share)) / n + Z95 ** 2 / (4 * n ** 2))) / scale;
  return { value: share, low: Math.max(0, Math.min(share, center - half)), high: Math.min(1, Math.max(share, center + half)) };
}

/** The reward of a verdict or of a class. */
export const rewardOf = ({ style, exact }, reward) =>
  (reward !== "exact" && style ? 1 : 0) + (reward !== "style" && exact ? 1 : 0);

const CLASSES = [0, 1, 2, 3].map((k) => ({ style: k >= 2, exact: k % 2 === 1 }));

/** π* ∝ π_ref exp(r/β) over the four classes (Rafailov et al. 2023, eq. 4). */
export function optimum(rates, reward, beta) {
  const most = Math.max(...CLASSES.map((c) => rewardOf(c, reward)));
  const weights = rates.map((rate, k) => rate * Math.exp((rewardOf(CLASSES[k], reward) - most) / beta));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** Shares of style, exact and both, and the KL to the population, of rates over classes. */
export function shares(rates, ref = rates) {
  return {
    style: rates[2] + rates[3],
    exact: rates[1] + rates[3],
    both: rates[3],
    kl: rates.reduce((sum, p, k) => sum + (p > 0 ? p * Math.log(p / ref[k]) : 0), 0),
  };
}

/** `shares` on the population's own prompts, each with its own optimum; without beta, of the population itself. */
export function predicted(world, reward, beta) {
  const sums = { style: 0, exact: 0, both: 0, kl: 0 };
  for (const { probability, rates } of world.prompts) {
    const now = shares(beta ? optimum(rates, reward, beta) : rates, rates);
    for (const name in sums) sums[name] += probability * now[name];
  }
  return sums;
}
