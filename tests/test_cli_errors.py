"""Bad input: one line that names the fault, exit code 2, and nothing written."""

import json

import pytest
import torch

from dpo_core import training
from dpo_core.checkpoint import save_model
from dpo_core.commands import train_gen
from dpo_core.commands.parser import main
from toys import memoryless_model

GEN, DPO = ["train-gen", "--steps", "2"], ["train-dpo", "--steps", "2", "--pairs", "64"]
RL = ["train-rl", "--steps", "2"]
BAD = {
    "no command": ([], "COMMAND"),
    "unknown command": (["train"], "'train'"),
    "unknown option": ([*GEN, "--lr", "1"], "--lr"),
    "a word for a number": ([*GEN, "--steps", "many"], "'many'"),
    "negative steps": ([*GEN, "--steps", "-1"], "steps is -1; accepted are whole numbers from 1"),
    "no steps": ([*DPO, "--steps", "0"], "steps is 0"),
    "empty batch": ([*GEN, "--batch-size", "0"], "batch_size is 0"),
    "empty batch of pairs": ([*DPO, "--batch-size", "0"], "batch_size is 0"),
    "negative learning rate": ([*GEN, "--learning-rate", "-0.1"], "learning_rate is -0.1"),
    "infinite learning rate": ([*GEN, "--learning-rate", "inf"], "learning_rate is inf"),
    "negative seed": ([*GEN, "--seed", "-1"], "seed is -1"),
    "negative seed of pairs": ([*DPO, "--seed", "-1"], "seed is -1"),
    "giant seed": ([*GEN, "--seed", str(10**30)], ""),
    "states between lines": ([*GEN, "--save-every", "150"], "multiples of log_every"),
    "unknown task": ([*GEN, "--task", "boook"], "'boook'; accepted are book, classic"),
    "unknown optimizer": ([*GEN, "--optimizer", "sgd"], "'sgd'; accepted are muon, adamw"),
    "unknown optimizer for pairs": (
        [*DPO, "--optimizer", "sgd"],
        "'sgd'; accepted are muon, adamw",
    ),
    "unknown loss_on": ([*GEN, "--loss-on", "prompt"], "'prompt'; accepted are completion, all"),
    "unknown loss": ([*DPO, "--loss-type", "sigmod"], "'sigmod'; accepted are"),
    "unknown reward": ([*DPO, "--reward", "length"], "'length'; accepted are"),
    "a reward, classic": (
        [*DPO, "--task", "classic", "--reward", "style"],
        "reward has no effect",
    ),
    "pair temperatures, classic": (
        [*DPO, "--task", "classic", "--pair-temperatures", "3"],
        "pair_temperatures has",
    ),
    "unknown labels": ([*DPO, "--labels", "hard"], "'hard'; accepted are soft"),
    "no leash": ([*DPO, "--beta", "0"], "beta is 0.0"),
    "beta is no number": ([*DPO, "--beta", "nan"], "beta is nan"),
    "too much smoothing": (
        [*DPO, "--labels", "sampled", "--label-smoothing", "0.5"],
        "label_smoothing is 0.5",
    ),
    "smoothing of soft labels": (
        [*DPO, "--label-smoothing", "0.1"],
        "label_smoothing has no effect",
    ),
    "negative temperature of pairs": (
        [*DPO, "--pair-temperatures", "-1"],
        "pair_temperatures is -1.0",
    ),
    "no pairs": ([*DPO, "--pairs", "0"], "pairs is 0"),
    "fewer pairs than a batch": ([*DPO, "--pairs", "63"], "pairs is 63"),
    "another reference": ([*DPO, "--reference", "gen"], "needs --allow-other-reference"),
    "unknown method": ([*RL, "--method", "trpo"], "'trpo'; accepted are reinforce, rloo"),
    "unknown reward of a method": ([*RL, "--reward", "length"], "'length'; accepted are"),
    "no steps of a method": ([*RL, "--steps", "0"], "steps is 0"),
    "a negative leash": ([*RL, "--beta", "-1"], "beta is -1.0"),
    "no prompts of a rollout": ([*RL, "--prompts", "0"], "prompts is 0"),
    "one answer to leave out": (
        [*RL, "--answers", "1"],
        "answers is 1; accepted for method 'rloo' are",
    ),
    "no epochs": ([*RL, "--epochs", "0"], "epochs is 0"),
    "minibatches of unequal size": (
        [*RL, "--save-every", "0", "--minibatches", "3"],
        "divisors of 128 answers",
    ),
    "a state inside a rollout": (
        [*RL, "--epochs", "3"],
        "save_every is 100; accepted are multiples of 3",
    ),
    "old answers for reinforce": (
        [*RL, "--method", "reinforce", "--epochs", "2"],
        "takes one update a rollout",
    ),
    "a clip for reinforce": (
        [*RL, "--method", "reinforce", "--clip", "0.1"],
        "clip has no effect on",
    ),
    "an upper clip for reinforce": (
        [*RL, "--method", "reinforce", "--clip-high", "0.3"],
        "clip_high has no effect on",
    ),
    "a term of the loss where the leash is in the reward": (
        [*RL, "--kl-term", "ratio_k3"],
        "kl_term has no effect on method 'rloo'",
    ),
    "an unknown term": ([*RL, "--method", "grpo", "--kl-term", "k1"], "k3, ratio_k3"),
    "a clip of one": ([*RL, "--clip", "1"], "clip is 1.0"),
    "a lambda without critic": ([*RL, "--lam", "0.9"], "lam has no effect on method 'rloo'"),
    "too large a lambda": (
        [*RL, "--method", "ppo", "--lam", "1.5"],
        "lam is 1.5; accepted are finite numbers from 0 to 1",
    ),
    "a critic's weight without critic": (
        [*RL, "--value-weight", "1"],
        "value_weight has no effect on method 'rloo'",
    ),
    "no such start of a method": ([*RL, "--model", "nowhere"], "no model folder nowhere"),
    "negative seed of a method": ([*RL, "--seed", "-1"], "seed is -1"),
    "no such start": (
        [*DPO, "--model", "nowhere", "--output", "new/dpo.model"],
        "no model folder nowhere",
    ),
    "nothing to resume": ([*GEN, "--resume"], "nothing to resume"),
    "output is a file": ([*GEN, "--output", "file"], "is a file"),
    "output is a full folder": ([*GEN, "--output", "home"], "other files"),
    "output below a file": ([*DPO, "--output", "file/below"], "cannot write"),
    "output is two lines": ([*GEN, "--output", "a\u2028b"], "accepted is one line of text"),
    "output has a control character": ([*GEN, "--output", "a\x9b"], "accepted is one line of text"),
    "output in a new folder, nothing to resume": ([*GEN, "--output", "1/2", "--resume"], "nothing"),
    "a number of 100,000 digits and a letter": ([*DPO, "--beta", "1" * 100_000 + "x"], "number"),
    "a target of 100,000 digits": (["generate", "gen", "1" * 100_000 + "x"], "not a target"),
    "output is nothing": ([*GEN, "--output", ""], ""),
    "CUDA where there is none": ([*GEN, "--device", "cuda"], "torch sees 0 GPUs; accepted is cpu"),
    "unknown device": (
        ["evaluate", "gen", "--device", "tpu"],
        "'tpu'; accepted are auto, cpu, cuda",
    ),
    "a device torch knows": (
        ["evaluate", "gen", "--device", "meta"],
        "'meta'; accepted are auto, cpu, cuda",
    ),
    "no model": (
        ["generate", "nowhere", "54"],
        "no model folder nowhere; accepted are a folder or one of gen, dpo",
    ),
    "no prompts": (["generate", "gen"], "prompts"),
    "missing =": (["generate", "gen", "S54"], "no '='"),
    "missing S": (["generate", "gen", "54="], "is not S<target>="),
    "unknown character": (["generate", "gen", "S5x="], "'S5x='"),
    "code": (["generate", "gen", "__import__('os')"], "is not a target"),
    "empty prompt": (["generate", "gen", ""], "''"),
    "over-long prompt": (
        ["generate", "gen", "1" * 200],
        "202 tokens and 32 new ones; the model has 128 positions",
    ),
    "over-long answers": (
        ["generate", "gen", "54", "--max-new-tokens", "0"],
        "max_new_tokens is 0",
    ),
    "no answers": (["generate", "gen", "54", "--n", "0"], "n is 0"),
    "negative temperature": (
        ["generate", "gen", "54", "--temperature", "-1"],
        "temperature is -1.0",
    ),
    "top_p of 0": (["generate", "gen", "54", "--top-p", "0"], "top_p is 0.0"),
    "negative top_k": (["generate", "gen", "54", "--top-k", "-2"], "top_k is -2"),
    "one answer": (["evaluate", "gen", "--n", "1"], "n is 1; accepted are whole numbers from 2"),
    "negative seed of an evaluation": (["evaluate", "gen", "--seed", "-1"], "seed is -1"),
    "KL at another temperature": (
        ["evaluate", "gen", "--reference", "gen", "--temperature", "0.5"],
        "temperature 1",
    ),
    "no such reference": (["evaluate", "gen", "--reference", "nowhere"], "no model folder nowhere"),
    "no such model to reckon with": (
        ["cost", "llama-9"],
        "no model 'llama-9'; accepted are a folder",
    ),
    "a folder without a config": (["cost", "home"], "home has no config.json"),
    "unknown gpu": (["cost", "book", "--gpu", "abacus"], "'abacus'; accepted are a100-40"),
    "unknown sharding": (
        ["cost", "book", "--sharding", "zero4"],
        "'zero4'; accepted are none, zero1",
    ),
    "no answer": (
        ["cost", "book", "--chosen", "0"],
        "chosen is 0; accepted are whole numbers from 1",
    ),
    "no utilisation": (["cost", "book", "--mfu", "0"], "mfu is 0.0"),
    "a GPU of no speed": (["cost", "book", "--gpu-tflops", "1e-300"], "gpu_tflops is 1e-300"),
    "more than the peak": (
        ["cost", "llama-3-8b", "--mfu", "0.9", "--checkpointing"],
        "with what is recomputed, accepted are at most 0.81",
    ),
    "a rejected answer in sft": (
        ["cost", "book", "--method", "sft", "--rejected", "9"],
        "rejected has no effect on method sft",
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a file and a full folder in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("mine")
    return tmp_path


def fails(arguments, capsys) -> str:
    """The one line on standard error of a command that must fail."""
    try:
        code = main(arguments)
    except SystemExit as exit_code:  # argparse's own way
        code = exit_code.code
    errors = capsys.readouterr().err
    assert code == 2
    assert len(errors.splitlines()) == 1 and errors.startswith("dpo-core")
    return errors


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(kind, capsys, here):
    """A traceback, a silent default, or files of a run that never was."""
    arguments, message = BAD[kind]
    before = sorted(here.rglob("*"))
    assert message in fails(arguments, capsys)
    assert sorted(here.rglob("*")) == before


def test_an_interrupted_run_is_not_overwritten(capsys, here, monkeypatch):
    """Starting again by mistake must not cost an hour of training."""
    options = ["--batch-size", "4", "--log-every", "1", "--save-every", "1", "--warmup", "0"]
    before = training.learning_rate_factor

    def interrupt(step, steps, warmup):
        if step == 1:
            raise KeyboardInterrupt
        return before(step, steps, warmup)

    with monkeypatch.context() as patch:
        patch.setattr(training, "learning_rate_factor", interrupt)
        assert main([*GEN, *options]) == 130
    assert f"--resume continues {here / 'gen.model.partial'}" in capsys.readouterr().err
    assert "continue it with --resume" in fails(GEN, capsys)
    assert not (here / "gen.model").exists()
    assert main([*GEN, *options, "--resume"]) == 0
    assert not (here / "gen.model.partial").exists()


def test_an_interruption_before_the_first_state_promises_nothing(capsys, here, monkeypatch):
    """A --resume that is promised and then refused."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "learning_rate_factor", interrupt)
    assert main(GEN) == 130
    assert (
        capsys.readouterr().err == "dpo-core train-gen: interrupted; there is nothing to resume\n"
    )
    assert sorted(path.name for path in here.iterdir()) == ["file", "home"]


def test_a_loss_that_is_not_finite_is_one_line(capsys, here, monkeypatch):
    """Diverged: the message says at which step, and what to try; no model is written."""

    def diverged(model, batch):
        return {"loss": (sum(p.sum() for p in model.parameters()) * torch.inf, 1)}

    monkeypatch.setattr(train_gen, "sft_step", diverged)
    assert "step 0 is not finite; try a smaller learning rate" in fails(GEN, capsys)
    assert not (here / "gen.model").exists()


@pytest.fixture
def broken(here):
    """A model folder whose weights are cut."""
    save_model(memoryless_model({"E": 1.0}), here / "broken.model")
    weights = here / "broken.model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    return "broken.model"


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "{}", "54"],
        ["evaluate", "{}"],
        [*DPO, "--model", "{}"],
        [*RL, "--model", "{}"],
        ["evaluate", "gen", "--reference", "{}"],
    ],
)
def test_a_damaged_model_is_named_by_every_command(arguments, broken, capsys, here):
    """Each command that reads a model goes through the same check."""
    before = sorted(here.rglob("*"))
    assert "model.safetensors is damaged" in fails(
        [a.replace("{}", broken) for a in arguments], capsys
    )
    assert sorted(here.rglob("*")) == before


def test_a_policy_that_is_not_its_reference_stops_the_run(capsys, here):
    """A wrong reference gives a loss that falls all the same; the first pair is named, no model is written."""
    assert main([*DPO, "--steps", "1", "--output", "a.model"]) == 0
    (made,) = here.glob("a.model.pairs-*.jsonl")
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    rows[5]["ref_rejected_logps"] -= 0.01
    made.write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    errors = fails([*DPO, "--steps", "1", "--output", "a.model"], capsys)
    assert f"{made} is not as it was written" in errors
    edited = made.rename(here / "edited.jsonl")
    run = ["train-dpo", "--steps", "1", "--pairs-file", "edited.jsonl", "--output", "b.model"]
    for more in ([], ["--allow-other-reference"]):
        errors = fails([*run, *more], capsys)
        assert f"pair 5, rejected {rows[5]['prompt']}{rows[5]['rejected']}" in errors
    assert not (here / "b.model").exists() and edited.exists()


def test_another_reference_is_used_when_it_is_allowed(capsys, here):
    """The option must do what it says: the recorded log-probabilities are the other model's."""
    other = memoryless_model({"E": 0.5, "1": 0.5})
    save_model(other, here / "other.model")
    arguments = [*DPO, "--steps", "1", "--reference", "other.model", "--allow-other-reference"]
    assert main(arguments) == 0
    (made,) = here.glob("*.pairs-*.jsonl")
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    expected = [len(row["chosen"]) * torch.tensor(0.5).log().item() for row in rows]
    assert [row["ref_chosen_logps"] for row in rows] == pytest.approx(expected, rel=1e-4)
