"""Fuzzing: whatever comes in, the outcome is a result, or one line that names the fault.

10,000 cases in CI; a million under `make test-slow`, in parts that are ranges of seeds, so that a long
run is taken up again with `-k` and the name of a part. A failure names its kind and seed, and
`attack.generator(kind, seed)` is all that a case depends on.
"""

import dataclasses
import functools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from attack import (
    CASES,
    NAMES,
    NUMBERS,
    PART,
    TARGETS,
    changed,
    damaged,
    generator,
    in_time,
    one_line,
    outcome,
    pick,
    text_of,
    tree,
)
from dpo_core import checkpoint, evaluation
from dpo_core.checkpoint import RECIPE, CheckpointError, load_model, save_model, tensor_bytes
from dpo_core.commands import (
    evaluate,
    generate,
    make_pairs,
    parser,
    recipe,
    train_dpo,
    train_gen,
    train_rl,
)
from dpo_core.commands.parser import COMMANDS
from dpo_core.model import ModelConfig
from dpo_core.pairs import CUT, Pairs, read_pairs
from dpo_core.run_state import MARK, _hash
from dpo_core.storage import LOCK
from dpo_core.task import TASKS, BookTask, read_prompt
from runs import run, same_bits, state_file, stored_progress
from toys import SMALL, memoryless_model, small_model

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


# ---------------------------------------------------------------- the sandbox

MUTE = memoryless_model({"E": 0.5, "1": 0.25, "+": 0.25})
ROWS = [
    {"prompt": f"S{n}=", "chosen": f"{n}+0E", "rejected": f"{n}+1E", "preference_prob": 1.0}
    for n in range(5)
]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A folder with a bit of everything, some levels down, and commands whose work is tiny."""
    top = tmp_path_factory.mktemp("attack")
    here = top / "a" / "b" / "c"
    here.mkdir(parents=True)
    for name in ("gen", "dpo", "mute.model"):
        save_model(MUTE, here / name, RECIPES[0])
    (here / "file").write_text("mine")
    (here / "home").mkdir()
    (here / "home" / "letter").write_text("mine")
    os.mkfifo(here / "fifo")
    for name, target in (("link", "mute.model"), ("loop", "loop"), ("dead", "nowhere")):
        (here / name).symlink_to(target)
    (here / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (here / "one.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    (here / "q.partial").mkdir()
    (here / "q.partial" / "letter").write_text("mine")
    before = os.getcwd()
    os.chdir(here)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        yield top
    os.chdir(before)


def make_small(patch):
    """What takes time is taken out of the commands: training, large numbers of draws, the table."""
    patch.setattr(torch, "set_num_threads", lambda count: None)
    tasks = {name: task() for name, task in TASKS.items()}
    tasks["book"] = BookTask(largest=6, largest_third=2)
    for module in (recipe, train_dpo, train_gen, train_rl):
        real = module.make_task
        patch.setattr(module, "make_task", lambda name, r=real: tasks[r(name).name])
    for module in (train_gen, train_dpo, train_rl):
        patch.setattr(module, "run_training", lambda *a, **k: None)
    read, draw, pairs = evaluation.evaluate, generate.generate, train_dpo.training_pairs
    excess, made = evaluation.excess_nats, checkpoint_pairs()
    patch.setattr(evaluation, "evaluate", lambda *a, n, **k: read(*a, n=min(n, 6), **k))
    patch.setattr(evaluation, "excess_nats", lambda *a, n, **k: excess(*a, n=min(n, 6), **k))
    patch.setattr(generate, "generate", lambda model, p, **k: draw(model, p[:2], **k) * len(p))
    patch.setattr(make_pairs, "make", lambda *a: made)
    patch.setattr(
        train_dpo,
        "training_pairs",
        lambda options, *rest: pairs(options, *rest) if options.pairs_file else made,
    )
    patch.setattr(parser, "make_parser", functools.cache(parser.make_parser))
    predicted = evaluate.predicted_optimum
    patch.setattr(evaluate, "predicted_optimum", lambda t, *a: predicted(tasks["book"], *a))


@functools.cache
def checkpoint_pairs() -> Pairs:
    """The pairs of ROWS, as `make-pairs` would have them."""
    from dpo_core.pairs import with_reference

    columns = [[row[name] for row in ROWS * 20] for name in ("prompt", "chosen", "rejected")]
    return with_reference(MUTE, *columns, [1.0] * len(columns[0]))


def put_back(top: Path, before: dict) -> None:
    """Remove what a command that went through has written."""
    for name in sorted(tree(top).keys() - before.keys(), reverse=True):
        path = top / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def cases(kind):
    """The parameters of a test: one range of seeds in CI, many under `make test-slow`."""
    count = CASES[kind]
    many = [
        pytest.param(range(start, start + 100 * count // PART), marks=pytest.mark.slow)
        for start in range(0, 100 * count, 100 * count // PART)
    ]
    return pytest.mark.parametrize(
        "seeds",
        [pytest.param(range(count)), *many],
        ids=lambda seeds: f"{kind}-{seeds.start}-{seeds.stop}",
    )


def each(kind, seeds, attempt):
    """Every case of a range; a failure names its seed."""
    for seed in seeds:
        try:
            attempt(generator(kind, seed))
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- (a) command lines


def value_of(rng, command, field):
    """A value for an option: a good one, or any at all."""
    rules = field.metadata
    if rng.random() < 0.3:
        return pick(rng, (*NUMBERS, *NAMES))
    if rules["choices"]:
        return pick(rng, rules["choices"])
    if field.type is str:
        return pick(rng, NAMES)
    ends = [rules[end] for end in ("low", "high") if abs(rules[end]) < 1e300]
    good = [str(end) for end in ends] + [str(field.default)] * (field.default is not None)
    return pick(rng, good) if good and rng.random() < 0.7 else pick(rng, NUMBERS)


def command_line(rng):
    """A command with some of its options, most of them right."""
    name = pick(rng, list(COMMANDS)) if rng.random() < 0.98 else pick(rng, NAMES)
    options = COMMANDS.get(name, (train_gen.TrainGen,))[0]
    words = [name] if rng.random() < 0.99 else []
    for field in dataclasses.fields(options):
        if field.metadata["positional"] and rng.random() < 0.97:
            if field.metadata["choices"]:
                words.append(pick(rng, field.metadata["choices"]))
            elif field.name == "file":
                words.append(pick(rng, ("pairs.jsonl", "one.jsonl", "gen", *NAMES)))
            elif field.name == "model":
                words.append(
                    pick(rng, ("gen", "dpo", "mute.model"))
                    if rng.random() < 0.7
                    else pick(rng, NAMES)
                )
            else:
                words += [pick(rng, TARGETS) for _ in range(int(rng.integers(1, 4)))]
    named = [f for f in dataclasses.fields(options) if not f.metadata["positional"]]
    for _ in range(int(rng.integers(0, 5))):
        field, form = pick(rng, named), rng.random()
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            words.append(flag if form < 0.9 else flag + "=" + pick(rng, NUMBERS))
        elif form < 0.6:
            words += [flag, value_of(rng, name, field)]
        elif form < 0.85:
            words.append(f"{flag}={value_of(rng, name, field)}")
        elif form < 0.9:
            words.append(flag)
        elif form < 0.93:
            words.append(flag + "=--")
        elif form < 0.96:
            words += [flag[:-1], value_of(rng, name, field)]
        else:
            words.append(pick(rng, (*NAMES, *NUMBERS, "--help", "-h", "--nothing")))
    return words


@cases("commands")
def test_any_command_line_ends_in_a_result_or_in_one_line(sandbox, seeds):
    """Tracebacks of argparse, of the file system and of torch; a folder made by a run that never was."""
    before = tree(sandbox)

    def attempt(rng):
        words = command_line(rng)
        try:
            code = outcome(words, sandbox)
        except Exception as error:
            raise AssertionError(f"{words!r:.400}: {type(error).__name__}: {error}") from error
        codes.append(code)
        if code != 2:
            put_back(sandbox, before)

    codes: list[int] = []
    each("commands", seeds, attempt)
    assert tree(sandbox) == before
    assert 0.05 < codes.count(0) / len(codes) < 0.95  # both ways are tried


# ---------------------------------------------------------------- (b) recipes

RECIPES = (
    {
        "task": "book",
        "reward": "style+exact",
        "labels": "soft",
        "beta": 0.25,
        "loss_type": "sigmoid",
        "label_smoothing": 0.0,
        "reference": {"folder": "gen", "fingerprint": "0123456789abcdef"},
        "steps": 10,
        "seed": 0,
        "last": {"loss": 0.5},
    },
    {"task": "classic", "steps": 10, "learning_rate": 0.01, "loss_on": "completion", "last": {}},
    {
        "method": "rloo",
        "reward": "exact",
        "beta": 0.25,
        "reference": {"folder": "gen", "fingerprint": checkpoint.fingerprint(MUTE)},
    },
)
READERS = (
    ["evaluate", "{}", "--json", "--n", "4"],
    ["evaluate", "{}", "--n", "4"],
    ["generate", "{}", "54"],
    ["make-pairs", "--model", "{}", "--pairs", "4"],
    ["make-pairs", "--model", "{}", "--source", "population"],
    ["train-dpo", "--model", "{}", "--pairs", "64"],
    ["train-rl", "--model", "{}"],
    ["train-gen", "--output", "{}"],
)


@cases("recipes")
def test_any_recipe_ends_in_a_result_or_in_one_line(sandbox, seeds):
    """Values of another type anywhere in what a model carries, down to nesting 100,000 deep."""
    weights = MUTE.state_dict()
    save_model(MUTE, "victim.model")
    path = Path("victim.model/model.safetensors")
    before = tree(sandbox)

    def attempt(rng):
        recipe = changed(rng, pick(rng, RECIPES), int(rng.integers(1, 4)))
        text = text_of(recipe)
        if rng.random() < 0.15:
            text = damaged(rng, text.encode()).decode("utf-8", "replace")
        path.write_bytes(tensor_bytes(weights, {"format": "pt", RECIPE: text}))
        words = [word.replace("{}", "victim.model") for word in pick(rng, READERS)]
        try:
            code = outcome(words, sandbox)
        except Exception as error:
            raise AssertionError(f"{words} on {text!r:.400}: {error}") from error
        codes.append(code)
        put_back(sandbox, before)

    codes: list[int] = []
    each("recipes", seeds, attempt)
    shutil.rmtree("victim.model")
    assert 0.05 < codes.count(0) / len(codes) < 0.95


# ---------------------------------------------------------------- (c) run states


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The state of a run after its last step."""
    folder = tmp_path_factory.mktemp("state")
    run("sft, muon", small_model(), folder=folder)
    return folder


def other_tensors(rng, tensors):
    """Tensors of which one is of another kind, shape or content."""
    name = pick(rng, sorted(tensors))
    tensor = tensors[name]
    other = pick(
        rng,
        (
            lambda t: t.double(),
            lambda t: t.bfloat16(),
            lambda t: t.int(),
            lambda t: t.bool(),
            lambda t: t.to(torch.complex64),
            lambda t: t.to(torch.float8_e4m3fn),
            lambda t: t.reshape(-1)[:-1].clone(),
            lambda t: t[None].clone(),
            lambda t: torch.full_like(t, torch.nan),
            lambda t: torch.full_like(t, torch.inf),
            lambda t: torch.full_like(t, 1e38),
            lambda t: torch.zeros_like(t),
            lambda t: torch.zeros(0),
            lambda t: None,
        ),
    )(tensor)
    changed_ones = {**tensors, name: other}
    if other is None:
        del changed_ones[name]
    if rng.random() < 0.1:
        changed_ones["more"] = torch.zeros(2)
    return changed_ones


def unchecked_bytes(tensors, metadata):
    """A safetensors file of anything, NaN included."""
    from safetensors.torch import save

    return save(tensors, metadata)


@cases("states")
def test_any_run_state_is_resumed_or_refused_by_name(finished, tmp_path, seeds):
    """States whose parts were cut, edited or exchanged, also by somebody who made the hash fit."""
    content = state_file(finished).read_bytes()
    tensors, progress = load_file(state_file(finished)), stored_progress(finished)
    state_file(tmp_path).parent.mkdir()

    def attempt(rng):
        kind, forged = rng.random(), True
        if kind < 0.35:
            bad, forged = damaged(rng, content), False
        elif kind < 0.85:
            text = text_of(changed(rng, progress, int(rng.integers(1, 3))))
            if rng.random() < 0.1:
                text = damaged(rng, text.encode()).decode("utf-8", "replace")
            bad = tensor_bytes(tensors, {MARK: text, "hash": _hash(tensors, text)})
        else:
            others, text = other_tensors(rng, tensors), json.dumps(progress)
            bad = unchecked_bytes(others, {MARK: text, "hash": _hash(others, text)})
        state_file(tmp_path).write_bytes(bad)
        state_file(tmp_path).with_name(LOCK).touch()
        model = small_model(seed=9)
        try:
            with in_time():
                history = run("sft, muon", model, folder=tmp_path, resume=True)
        except CheckpointError as error:
            one_line(str(error))
            return
        except FloatingPointError as error:
            assert forged
            one_line(str(error))
            return
        json.dumps(history, allow_nan=False)
        metrics = state_file(tmp_path).with_name("metrics.jsonl").read_text()
        assert metrics.count("\n") == len(history)
        if not forged:  # what was changed holds nothing
            expected = small_model()
            expected.load_state_dict(
                {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
            )
            assert same_bits(model, expected)

    threads = torch.get_num_threads()
    each("states", seeds, attempt)
    torch.set_num_threads(threads)


# ---------------------------------------------------------------- (d) models

OURS = small_model()


@cases("models")
def test_any_model_folder_is_read_as_it_is_or_refused_by_name(tmp_path, seeds):
    """Configurations, tokenizers and weights that are damaged, or of another kind, shape or content."""
    folder = tmp_path / "a.model"
    save_model(OURS, folder, RECIPES[0])
    clean = {path.name: path.read_bytes() for path in folder.iterdir()}
    weights = load_file(folder / "model.safetensors")

    def attempt(rng):
        name = pick(rng, ("config.json", "config.json", "tokenizer.json", "model.safetensors"))
        edited = None
        if rng.random() < 0.3:
            bad = damaged(rng, clean[name])
        elif name == "model.safetensors":
            bad = unchecked_bytes(other_tensors(rng, weights), {"format": "pt"})
        else:
            edited = changed(rng, json.loads(clean[name]), int(rng.integers(1, 3)))
            bad = text_of(edited).encode()
        (folder / name).write_bytes(bad)
        try:
            with in_time():
                model = load_model(folder)
        except CheckpointError as error:
            one_line(str(error))
            assert str(folder) in str(error)
        else:
            assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
            if name == "config.json" and edited is not None:
                fields = ModelConfig.__dataclass_fields__  # an empty rope_scaling is plain RoPE too
                known = {n for n in fields if edited.get(n) not in (None, {})}
                assert {n: float(getattr(model.config, n)) for n in known} == {
                    n: float(edited[n]) for n in known
                }
            if name == "tokenizer.json" and edited is not None:
                assert edited["model"]["vocab"] == json.loads(clean[name])["model"]["vocab"]
            if name != "model.safetensors":
                assert same_bits(model, OURS)
        finally:
            (folder / name).write_bytes(clean[name])

    each("models", seeds, attempt)


# ---------------------------------------------------------------- (e) files of pairs


def says(role, content, **more):
    return {"role": role, "content": content, **more}


def formats(n):
    """One pair in the formats that TRL knows."""
    prompt, chosen, rejected = f"S{n}=", f"{n}+0E", f"{n}+1E"
    user, good, bad = says("user", prompt), says("assistant", chosen), says("assistant", rejected)
    plain = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return (
        plain,
        {**plain, "preference_prob": 0.75},
        {**plain, "ref_chosen_logps": -2.5, "ref_rejected_logps": -3.5},
        {**plain, "preference_prob": 1, "ref_chosen_logps": -2.5, "ref_rejected_logps": 0},
        {"chosen": prompt + chosen, "rejected": prompt + rejected},
        {"prompt": [user], "chosen": [good], "rejected": [bad]},
        {"chosen": [user, good], "rejected": [user, bad]},
        {
            "prompt": [says("user", str(n))],
            "chosen": [says("assistant", f"{n}")],
            "rejected": [bad],
        },
        {"prompt": prompt, "completion": chosen, "label": True},
        {"prompt": [user], "completion": [good], "label": False},
        {"prompt": [user, good, user], "chosen": [good], "rejected": [bad]},
        {"chosen": [user, good, user, good], "rejected": [user, good, user, bad]},
        {"prompt": [says("system", "x"), user], "chosen": [good], "rejected": [bad]},
        {"prompt": [user], "chosen": [good], "rejected": [bad], "tools": [{"name": "f"}]},
        {"prompt": [user], "chosen": [says("assistant", "1E", tool_calls=[1])], "rejected": [bad]},
        {"prompt": prompt, "chosen": prompt + chosen, "rejected": prompt + rejected},
        {"prompt": prompt, "completion": chosen},
        {"messages": [user, good]},
        {**plain, "images": ["x.png"]},
    )


WORDS = (
    *(
        "",
        "E",
        "1E",
        "1",
        "1EE",
        "1E1",
        "S1=1E",
        "９E",
        "1\nE",
        "P1E",
        "1PE",
        "x",
        "=",
        "S=",
        "S01=",
    ),
    *(
        "S1=",
        "S1= ",
        " S1=",
        "S1=S1=",
        "S５=",
        "S1e3=",
        "S+1=",
        "S1/3=",
        "S1",
        "1=",
        "S--1=",
        "S-0=",
    ),
    *("1" * 31 + "E", "1" * 31, "1" * 32, "1" * 33, "1" * 70, "1" * 70 + "E", "S" + "1" * 70 + "="),
    *("S" + "9" * 5000 + "=", "9" * 5000 + "E", "S0." + "0" * 40 + "1=", "\ufeffS1=", "1E\u2028"),
)


def sane(data, positions=None):
    """Raises AssertionError unless pairs are what a training can believe."""
    for row in zip(data.prompt, data.chosen, data.rejected):
        read_prompt(row[0])
        for answer in row[1:]:
            assert answer.isascii() and answer.isprintable() and answer
            assert answer.endswith("E") or len(answer) >= CUT, answer
            assert "E" not in answer[:-1] and not answer.startswith(row[0]), answer
            assert positions is None or len(row[0] + answer) <= positions
    assert all(type(p) is float and 0 <= p <= 1 for p in data.preference_prob)
    logps = np.array([data.ref_chosen_logps, data.ref_rejected_logps], dtype=np.float32)
    assert np.isfinite(logps).all() and (logps <= 0).all()
    batch = data.batch(np.arange(len(data)))
    assert all(torch.isfinite(tensor).all() for tensor in batch.values())


@cases("pairs")
def test_any_file_of_pairs_gives_sane_pairs_or_is_refused_by_name(tmp_path, seeds):
    """Answers that nothing ends, prompts that are none, labels that are words, lines cut in two."""
    path = tmp_path / "pairs.jsonl"
    accepted = 0

    def attempt(rng):
        nonlocal accepted
        form, count = int(rng.integers(len(formats(0)))), int(rng.integers(1, 5))
        if rng.random() < 0.7:
            form = int(rng.integers(8))
        rows = [formats(n)[form] for n in range(count)]
        if rng.random() < 0.6:
            at = int(rng.integers(count))
            if rng.random() < 0.5:
                rows[at] = changed(rng, rows[at])
            else:
                put(rows[at], pick(rng, list(places_of_text(rows[at]))), pick(rng, WORDS))
        ending = pick(rng, ("\n", "\n", "\n", "\r\n", "\n\n", "\r", "\u2028"))
        content = ending.join(text_of(row) for row in rows).encode() + pick(
            rng, (b"\n", b"", b"\n\n")
        )
        if rng.random() < 0.25:
            content = damaged(rng, content)
        path.write_bytes(content)
        reference = MUTE if rng.random() < 0.5 else None
        try:
            with in_time():
                data = read_pairs(path, reference)
        except ValueError as error:
            one_line(str(error))
            assert str(path) in str(error)
            return
        accepted += 1
        sane(data, SMALL.max_position_embeddings if reference else None)
        lines = [line for line in content.split(b"\n") if line.strip()]
        assert len(data) == len(lines)
        again = tmp_path / "again.jsonl"
        again.write_bytes(data.text())
        assert read_pairs(again) == data

    each("pairs", seeds, attempt)
    assert 0.1 < accepted / len(seeds) < 0.9


def places_of_text(row):
    from attack import places

    for path in places(row):
        value = functools.reduce(lambda at, key: at[key], path, row)
        if isinstance(value, str) and path:
            yield path


def put(row, path, value):
    functools.reduce(lambda at, key: at[key], path[:-1], row)[path[-1]] = value
