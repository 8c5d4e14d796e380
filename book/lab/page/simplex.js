// A prompt with few answers, all of them enumerated: dpo_core/tabular.py in JavaScript, and its level lines.
//
// A policy is its log-probabilities, an array of A numbers. A problem is {refLogps, reward}.
"use strict";

(() => {
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  function logSoftmax(logits) {
    const top = Math.max(...logits);
    const logZ = top + Math.log(sum(logits.map((logit) => Math.exp(logit - top))));
    return logits.map((logit) => logit - logZ);
  }

  /** E[values] under the policy; an answer of probability zero counts nothing. */
  const mean = (logps, values) => sum(logps.map((logp, i) => (Math.exp(logp) > 0 ? Math.exp(logp) * values[i] : 0)));

  /** KL(policy || other) in nats. */
  const kl = (logps, otherLogps) => mean(logps, logps.map((logp, i) => logp - otherLogps[i]));

  /** J(π) = E_π[r] - β KL(π || π_ref). */
  const objective = (logps, { refLogps, reward }, beta) => mean(logps, reward) - beta * kl(logps, refLogps);

  /** The policy that maximises the objective: π* ∝ π_ref exp(r / β). */
  const optimum = ({ refLogps, reward }, beta) => logSoftmax(refLogps.map((logp, i) => logp + reward[i] / beta));

  /** The table of a judge with this reward, all pairs equally often: [i][j] is the weight of "i was preferred to j".
   *
   * labels: "soft" divides a pair by the Bradley-Terry probability; "deterministic" gives it to the better answer.
   */
  function comparisons(reward, labels) {
    const each = 2 / (reward.length * (reward.length - 1));
    const won = (gap) => (labels === "soft" ? Lab.losses.sigmoid(gap) : Number(gap > 0));
    return reward.map((mine, i) => reward.map((other, j) => (i === j ? 0 : each * won(mine - other))));
  }

  /** The mean loss over a table of comparisons, and its gradient by the logits of the policy.
   *
   * given: loss_type, beta and settings as preferenceLoss takes them; every answer has one token.
   */
  function expectedLoss(logits, refLogps, wins, given) {
    const logps = logSoftmax(logits);
    const slopes = logps.map(() => 0); // by the log-probabilities
    const total = sum(wins.flat());
    let loss = 0;
    wins.forEach((row, i) =>
      row.forEach((weight, j) => {
        if (weight === 0) return;
        const pair = Lab.losses.preferenceLoss({
          ...given,
          ...{ policy_chosen_logps: logps[i], policy_rejected_logps: logps[j] },
          ...{ ref_chosen_logps: refLogps[i], ref_rejected_logps: refLogps[j] },
          ...{ chosen_lengths: 1, rejected_lengths: 1 },
        });
        loss += (weight / total) * pair.loss;
        slopes[i] += (weight / total) * pair.gradChosen;
        slopes[j] += (weight / total) * pair.gradRejected;
      }),
    );
    const all = sum(slopes);
    return { loss, gradient: slopes.map((slope, i) => slope - Math.exp(logps[i]) * all) };
  }

  /** Gradient descent in the logits, from the reference: steps + 1 policies with the loss of each.
   *
   * A table without comparisons (all rewards equal, labels that drop ties) moves nothing.
   */
  function path({ refLogps, reward }, { labels, rate, steps, ...given }) {
    const wins = comparisons(reward, labels);
    if (sum(wins.flat()) === 0) return [{ logps: refLogps, loss: NaN }];
    const walked = [];
    let logits = refLogps;
    for (let step = 0; step <= steps; step++) {
      const { loss, gradient } = expectedLoss(logits, refLogps, wins, given);
      walked.push({ logps: logSoftmax(logits), loss });
      logits = logits.map((logit, i) => logit - rate * gradient[i]);
    }
    return walked;
  }

  const GRID = 96;
  const PAD = 0.06; // the grid reaches beyond the triangle, so that lines are cut by its sides and not by ours

  /** `count` level lines of the objective over three answers, between its least value and its largest: the gap to the
   * optimum grows as a square, so that lines around it lie evenly.
   *
   * Each is {value, lines}; a line is an array of barycentric points [p1, p2, p3], some beyond the triangle, where
   * p log p goes on as p log |p|.
   */
  function levels({ refLogps, reward }, beta, count) {
    const term = (p, i) => p * reward[i] - (p === 0 ? 0 : beta * p * (Math.log(Math.abs(p)) - refLogps[i]));
    const place = (cell) => -PAD + ((1 + 2 * PAD) * cell) / (GRID - 1);
    const values = Array.from({ length: GRID * GRID }, (_, cell) => {
      const [p1, p2] = [place(cell % GRID), place(Math.floor(cell / GRID))];
      return term(p1, 0) + term(p2, 1) + term(1 - p1 - p2, 2);
    });
    const least = Math.min(...reward.map((r, i) => r + beta * refLogps[i])); // J is concave: least at a corner
    const problem = { refLogps, reward };
    const most = objective(optimum(problem, beta), problem, beta);
    const thresholds = Array.from({ length: count }, (_, k) => most - (most - least) * ((count - k) / (count + 1)) ** 2);
    return d3.contours().size([GRID, GRID]).thresholds(thresholds)(values).map(({ value, coordinates }) => ({
      value,
      lines: coordinates.flat().map((ring) =>
        ring.map(([x, y]) => {
          const [p1, p2] = [place(x - 0.5), place(y - 0.5)];
          return [p1, p2, 1 - p1 - p2];
        }),
      ),
    }));
  }

  Lab.simplex = { logSoftmax, kl, objective, optimum, comparisons, expectedLoss, path, levels };
})();
