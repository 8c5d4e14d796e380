// From answers to labelled pairs (chapters 5 and 9), and the bugs that a reader may plant (chapter 8).

import { uniforms } from "./sampling.js";
import { judge } from "./task.js";
import { EOS, encode } from "./tokens.js";
import { rewardOf } from "./world.js";

/** Label pairs of answers under Bradley-Terry: rows {prompt, chosen, rejected, prob}. A deterministic judge has no label
 *  for a tie, so it returns fewer rows. Chance, where there is any, depends on the seed and on a pair's place alone. */
export function labelled(answers, reward, labels, seed = 0) {
  const uniform = uniforms(seed);
  return answers.flatMap(([target, first, second]) => {
    const prompt = `S${target}=`;
    const gap = rewardOf(judge(prompt, first), reward) - rewardOf(judge(prompt, second), reward);
    const wins = 1 / (1 + Math.exp(-gap));
    const u = uniform();
    if (labels === "deterministic" && gap === 0) return [];
    const swap = labels === "sampled" ? u >= wins : gap < 0;
    const [chosen, rejected] = swap ? [second, first] : [first, second];
    return [{ prompt, chosen, rejected, prob: labels === "soft" ? Math.max(wins, 1 - wins) : 1 }];
  });
}

/** The bugs: how much each lets a token count, what it makes of beta, whom it takes for the reference, or which token
 *  it scores. `exhibit` is the number in the museum of chapter 8; averaging has a section of its own there. */
export const BUGS = {
  none: {},
  shift: { exhibit: 1, shift: false },
  end: { exhibit: 3, counts: (prompt, ids) => ids.map((id, t) => (t >= prompt - 1 && id !== EOS ? 1 : 0)) },
  beta: { exhibit: 9, beta: (beta) => beta ** 2 },
  self: { exhibit: 13, reference: "policy" },
  mean: { counts: (prompt, ids) => ids.map((_, t) => (t >= prompt ? 1 / (ids.length - prompt) : 0)) },
};

const answerOnly = (prompt, ids) => ids.map((_, t) => (t >= prompt ? 1 : 0));

/** Two rows of a pair, chosen first, as network.batchOf takes them. */
export function rowsOf({ prompt, chosen, rejected }, bug = BUGS.none) {
  const counts = bug.counts ?? answerOnly;
  return [chosen, rejected].map((text) => {
    const ids = encode(prompt + text);
    return { ids, weights: counts(prompt.length, ids) };
  });
}
