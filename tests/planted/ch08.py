"""Planted errors of chapter 8: the ways in which a sequence log-probability and a loss are usually miscomputed."""

PLANTED = [
    # the log-probability of an answer
    ("the rows of the table one position off", "    p_two[:, a],\n    p_three[:, a, b],", "    p_three[:, a, b],\n    p_two[:, a],"),
    ("the prompt one token longer", "c, d] - p_two[:, a, b]", "c, d] - p_three[:, a, b, c]"),
    ("the mean of two tokens", "by_library.exp().view(INSTANCES, 9, 9)", "(by_library / 2).exp().view(INSTANCES, 9, 9)"),
    ("a mask shifted twice", "logps_of_answers(table_logits, table_ids, last_two)", "logps_of_answers(table_logits, table_ids, last_two.roll(-1, 1))"),
    ("position t judges token t", "by_us = logps_of_answers(table_logits,", "by_us = logps_of_answers(table_logits.roll(-1, 1),"),
    # which tokens count
    ("two prompts, not one", "x.repeat(2, 1, 1)", "torch.cat((x, x.flip(1)))"),
    ("the prompt counted on one side", "torch.autograd.grad(differences(1)[0].sum(),", "torch.autograd.grad(differences(1)[1].sum(),"),
    ("an answer token lost on the way", "differences(n)[0] - differences(1)[0]", "differences(n + 1)[0] - differences(1)[0]"),
    ("the log-ratio without the prompt", "differences(n)[1] - differences(1)[1]", "differences(n)[1] - differences(n)[1]"),
    # a row does not notice its batch
    ("position t speaks about token t", "speaks = marks.roll(-1, 1)", "speaks = marks"),
    ("the answer's ids are noise too", "torch.where(marks, ids,", "torch.where(speaks, ids,"),
    ("masks left behind when rows move", "logits[order], ids[order], marks[order]", "logits[order], ids[order], marks"),
    ("halves joined the wrong way round", "for part in zip(*split)]", "for part in list(zip(*split))[::-1]]"),
    ("another row scored alone", "batch_logps(model, [i]) for i in range(3)", "batch_logps(model, [2 - i]) for i in range(3)"),
    ("another order", 'batch_logps(model, [0, 1, 2], "left")', 'batch_logps(model, [1, 0, 2], "left")'),
    # positions
    ("positions count columns", "padded_gap(vectors, learned, real_tokens)", "padded_gap(vectors, learned, suspect_7)"),
    ("learned positions taken for RoPE", "padded_gap(vectors, None, suspect_7)", "padded_gap(vectors, learned, suspect_7)"),
    ("no RoPE and columns", "padded_gap(vectors, None, real_tokens)", "padded_gap(vectors, learned, suspect_7)"),
    ("a gap where none can be", "padded_gap(vectors, learned, suspect_7) >", "padded_gap(vectors, learned, real_tokens) >"),
    # from four numbers to a loss
    ("the second half of the loss dropped", "loss_of_pairs(*four, beta, q)", "loss_of_pairs(*four, beta)"),
    ("chosen and rejected swapped", "by_odds = q * (1 + 1 / odds).log() + (1 - q) * (1 + odds).log()", "by_odds = q * (1 + odds).log() + (1 - q) * (1 + 1 / odds).log()"),
    ("beta missing", "(four[1] - four[3])).exp() ** beta", "(four[1] - four[3])).exp()"),
    ("the reward of the chosen against the rejected", "chosen_rewards - beta * (four[0] - four[2])", "chosen_rewards - beta * (four[0] - four[1])"),
    # ln 2
    ("the references swapped", "loss_of_pairs(*same, *same, beta, labels)", "loss_of_pairs(*same, same[1], same[0], beta, labels)"),
    ("losses summed over the batch", "(at_start - math.log(2)).abs()", "(at_start.sum() - math.log(2)).abs()"),
    ("the same reference after all", "logits + 0.1 * normal(2 * INSTANCES, T, V)", "logits + 0.0 * normal(2 * INSTANCES, T, V)"),
    # sum or mean
    ("the sum in place of the mean", "(3.0 * log_ratio / lengths, judged)", "(3.0 * log_ratio, judged)"),
    ("labels turned round", "(3.0 * log_ratio / lengths, judged)", "(3.0 * log_ratio / lengths, judged.transpose(-1, -2))"),
    ("the length forgotten in beta", "torch.tensor(6.0), 3.0)", "torch.tensor(6.0), 0.5)"),
    ("unequal rewards", "torch.full_like(problem.reward, 0.7)", "problem.reward"),
    ("equal lengths", "any_ids(5, INSTANCES, 6).double() + 4", "torch.full((INSTANCES, 6), 6.0).double()"),
]  # fmt: skip
