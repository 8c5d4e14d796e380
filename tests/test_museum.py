"""Chapter 8's bug museum: every exhibit's test lets the right code pass, stops its bug, and lets this library pass.

The cells tagged `museum` are executed as in the chapter, after the first code cell and the cells tagged `setup`; they
fill MUSEUM with {number: (right, buggy, test)}. A test takes the code it judges as its argument, so the library's own
functions are put to it here, and so is every bug again.
"""

import importlib.metadata
import importlib.util
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import sources
from dpo_core.losses import preference_loss, sequence_logps
from dpo_core.pairs import Pairs, with_reference
from dpo_core.sampling import score
from dpo_core.steps import dpo_step
from dpo_core.tokenizer import CharTokenizer
from toys import small_model

CHAPTER = next(path for path in sources.chapters() if path.stem.startswith("08_"))
CELLS = sources.cells(CHAPTER)
THREAD = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+")
TOKENIZER = CharTokenizer()
FEWEST_EXHIBITS = 10


def tagged(cell, *tags):
    return cell.kind == "code" and bool(set(tags) & set(cell.metadata.get("tags", [])))


def steps():
    """The first code cell, the setup cells and the museum's, in order."""
    code = [cell for cell in CELLS if cell.kind == "code"]
    return code[:1] + [cell for cell in code[1:] if tagged(cell, "setup", "museum")]


@cache
def namespace():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sources.CHAPTERS)
        patch.setenv("MPLBACKEND", "Agg")
        names = {"__name__": "__main__"}
        for cell in steps():
            exec(compile(cell.source, f"<{cell.where}>", "exec"), names)
    return names


@cache
def rooms():
    """For each museum cell: its number, its headings, and its story, told after the faulty code and before the test."""
    found = {}
    for at, cell in enumerate(CELLS):
        if tagged(cell, "museum"):
            number = int(re.search(r"^exhibit\((\d+), ", cell.source, re.MULTILINE)[1])
            assert number not in found, f"two exhibits {number}"
            # heading (en, zh), the faulty code, story (en, zh), the museum's cell
            found[number] = (*CELLS[at - 5 : at - 3], CELLS[at - 3], *CELLS[at - 2 : at])
    return found


EXHIBITS = pytest.mark.parametrize("number", sorted(rooms()))


# ---------------------------------------------------------------- the exhibits


def test_ten_exhibits_numbered_in_order():
    assert len(rooms()) >= FEWEST_EXHIBITS
    assert list(rooms()) == list(range(1, len(rooms()) + 1)) == list(namespace()["MUSEUM"])


@EXHIBITS
def test_the_right_code_passes(number):
    right, _, test = namespace()["MUSEUM"][number]
    test(right)


@EXHIBITS
def test_the_replanted_bug_is_stopped(number):
    """By an assertion: a bug that crashes is no exhibit."""
    _, buggy, test = namespace()["MUSEUM"][number]
    with pytest.raises(AssertionError):
        test(buggy)


@EXHIBITS
def test_each_exhibit_names_its_thread_in_both_languages(number):
    head, head_zh, _, en, zh = rooms()[number]
    assert [cell.lang for cell in (head, head_zh, en, zh)] == ["en", "zh"] * 2
    assert all(re.match(rf"### {number} · ", cell.source) for cell in (head, head_zh))
    assert THREAD.findall(en.source) and THREAD.findall(en.source) == THREAD.findall(zh.source)
    assert len(re.findall(r"[A-Za-z]+", THREAD.sub("", en.source))) <= 120


@EXHIBITS
def test_the_code_comes_before_its_answer(number):
    """The faulty function stands alone in its cell, under a name that gives nothing away; then the question."""
    _, _, code, en, zh = rooms()[number]
    _, buggy, _ = namespace()["MUSEUM"][number]
    assert tagged(code, "setup") and buggy.__name__ == f"suspect_{number}"
    assert f"def suspect_{number}(" in code.source
    for story, question, answer in (
        (en, "> **What is wrong?**", "<summary>Answer</summary>"),
        (zh, "> **错在哪里？**", "<summary>答案</summary>"),
    ):
        assert story.source.startswith(question) and story.source.count(answer) == 1


def test_the_closing_table_lists_every_exhibit():
    """The table's thread is among those of the exhibit's own text."""
    for lang in ("en", "zh"):
        table = next(
            cell.source for cell in CELLS if cell.lang == lang and "\n| 1 | " in cell.source
        )
        lines = re.finditer(r"^\| (\d+) \| .*$", table, re.MULTILINE)
        rows = {int(line[1]): THREAD.search(line[0])[0] for line in lines}
        assert sorted(rows) == sorted(rooms())
        for number, thread in rows.items():
            assert thread in rooms()[number][3].source


def test_a_test_that_lets_its_bug_pass_is_refused():
    with pytest.raises(RuntimeError, match="exhibit 99"):
        namespace()["exhibit"](99, 1, 2, lambda candidate: None)
    assert 99 not in namespace()["MUSEUM"]


# ---------------------------------------------------------------- the library before the same tests


def masks_of_pairs(attention_mask, prompt_lengths):
    """What `Pairs.batch` marks, for the rows that the exhibit's test hands over."""
    data = Pairs(
        ["S54=", "S7="], ["27+27E", "3+4E"], ["30+24E", "E"], [1.0] * 2, [0.0] * 2, [0.0] * 2
    )
    batch = data.batch(np.arange(2))
    assert prompt_lengths == [4, 3] and batch["chosen_mask"].shape[1] == attention_mask.shape[1]
    return torch.cat((batch["chosen_mask"], batch["rejected_mask"]))


def real_of_pad(ids, lengths, pad_id):
    """The attention mask of `CharTokenizer.pad`, whose rows may hold any token, that of the padding too."""
    tokenizer = CharTokenizer()
    tokenizer.pad_id = pad_id
    padded, real = tokenizer.pad([row[:length].tolist() for row, length in zip(ids, lengths)])
    assert torch.equal(padded, ids)
    return real


def loss_of_library(*logps, beta):
    return preference_loss(*logps, beta=beta)[0]


def step_on(rewards_chosen, rewards_rejected, beta=1.0):
    """`dpo_step` on pairs whose rewards are given: the answer's only token has the log-probability wanted."""
    n = len(rewards_chosen)
    base = torch.tensor([-5.0])
    logps = base + torch.cat((rewards_chosen, rewards_rejected)) / beta  # (2B,)

    class Given(torch.nn.Module):
        def forward(self, ids):
            logits = torch.zeros(*ids.shape, 3)
            # softmax gives exp(logps)
            logits[:, 0, 1] = logps - torch.log1p(-logps.exp()) + torch.tensor(2.0).log()
            return logits

    ids = torch.tensor([[0, 1]]).expand(n, 2)
    mask = torch.tensor([[False, True]]).expand(n, 2)
    batch = {
        "chosen_ids": ids,
        "rejected_ids": ids,
        "chosen_mask": mask,
        "rejected_mask": mask,
        "ref_chosen_logps": base.expand(n),
        "ref_rejected_logps": base.expand(n),
    }
    return dpo_step(beta)(Given(), batch)


def accuracy_of_library(chosen_rewards, rejected_rewards):
    total, count = step_on(chosen_rewards, rejected_rewards)["rewards/accuracies"]
    return total / count


def reduction_of_library(pieces):
    """The loop's rule: sums and counts of all pieces, divided once; the losses are made by margins that give them."""
    results = [
        step_on(-torch.log(torch.expm1(losses)), torch.zeros(len(losses)))["loss"]
        for losses in pieces
    ]
    return sum(total for total, _ in results) / sum(count for _, count in results)


LIBRARY = {
    1: sequence_logps,
    2: sequence_logps,
    3: sequence_logps,
    4: masks_of_pairs,
    5: real_of_pad,
    8: sequence_logps,
    9: loss_of_library,
    10: reduction_of_library,
    11: loss_of_library,
    14: accuracy_of_library,
}


@pytest.mark.parametrize("number", sorted(LIBRARY))
def test_the_library_passes(number):
    namespace()["MUSEUM"][number][2](LIBRARY[number])


def test_the_step_on_given_rewards_does_what_it_says():
    """The helper above: rewards in, rewards out."""
    sums = step_on(torch.tensor([0.5, -1.0]), torch.tensor([0.0, 2.0]))
    assert sums["rewards/chosen"][0].item() == pytest.approx(-0.5, abs=1e-5)
    assert sums["rewards/rejected"][0].item() == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("buggy", [True, False])
def test_left_padding_moves_nothing_in_the_models_of_this_library(buggy):
    """Exhibit 7 on `Llama`: RoPE forgives a common offset, so the bug planted here gives each row of padding a place
    of its own, which stretches the distances instead."""
    model = small_model().double()
    row = TOKENIZER.encode("S54=27+27E")
    ids, real = TOKENIZER.pad([row, TOKENIZER.encode("S54=27+27-0-0E")], side="left")
    if buggy:
        real = torch.ones_like(real)
    marks = torch.zeros_like(ids, dtype=torch.bool)
    marks[0, -6:] = True
    with torch.no_grad():
        padded = sequence_logps(model(ids, real), ids, marks)[0]
        alone = sequence_logps(model(ids[:1, 4:]), ids[:1, 4:], marks[:1, 4:])[0]
    assert (abs(padded - alone).item() > 1e-3) if buggy else (abs(padded - alone).item() < 1e-6)


def test_stored_references_start_at_zero_and_stand_still():
    """Exhibits 12 and 13: the library's reference is a column of numbers, made by the policy in its own precision."""
    policy = small_model()
    data = with_reference(policy, ["S54=", "S7="], ["27+27E", "3+4E"], ["30+24E", "E"], [1.0, 1.0])
    batch = data.batch(np.arange(2))
    before = batch["ref_chosen_logps"].clone()
    rewards = score(policy, data.prompt, data.chosen) - before
    assert rewards.abs().max() < 1e-5
    with torch.no_grad():
        policy.lm_head.weight.mul_(1.1)
    assert torch.equal(data.batch(np.arange(2))["ref_chosen_logps"], before)
    losses = dpo_step(1.0)(policy, batch)["loss"]
    assert abs(losses[0] / losses[1] - np.log(2)) > 1e-3  # the loss moves, the reference does not


# ---------------------------------------------------------------- what ln 2 sees


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_ln_2_is_blind_to_a_wrong_log_probability(number):
    """The table's column: the same wrong function of both models starts at ln 2 like the right one."""
    _, buggy, _ = namespace()["MUSEUM"][number]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, 5, generator=generator, dtype=torch.float64)
    ids = torch.randint(5, (4, 7), generator=generator)
    mask = torch.tensor([[0, 0, 1, 1, 1, 0, 0]] * 4)
    chosen, rejected = buggy(logits, ids, mask).chunk(2)
    assert torch.allclose(
        loss_of_library(chosen, rejected, chosen, rejected, beta=0.3), torch.tensor(np.log(2))
    )


def test_ln_2_sees_summed_pieces():
    _, buggy, _ = namespace()["MUSEUM"][10]
    assert buggy(torch.full((8,), float(np.log(2))).split(2)).item() == pytest.approx(4 * np.log(2))


def test_trl_counts_a_tie_as_wrong():
    """Chapter 8 says so of TRL 1.16, where rewards/accuracies reads 0 at step 0; read from its source, not imported."""
    found = importlib.util.find_spec("trl")
    if found is None:
        pytest.skip("TRL is not installed")
    assert importlib.metadata.version("trl").startswith("1.16")
    trainer = Path(found.origin).parent / "trainer" / "dpo_trainer.py"
    line = "reward_accuracies = (chosen_rewards > rejected_rewards).float()"
    assert line in trainer.read_text(encoding="utf-8")
