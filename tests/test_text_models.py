"""Models that speak words: their tokenizer, pairs of texts, training, and the faults of such folders."""

import json
import shutil

import pytest
import torch

from dpo_core import lora
from dpo_core.checkpoint import (
    CheckpointError,
    load_model,
    load_pretrained,
    open_model,
    read_tokenizer,
    save_model,
)
from dpo_core.commands.parser import main
from dpo_core.evaluation import preference_accuracy
from dpo_core.packing import completion_logps
from dpo_core.pairs import read_pairs, with_reference
from dpo_core.sampling import generate, score
from dpo_core.steps import dpo_step, in_precision, live_reference, sft_step
from dpo_core.tokenizer import CharTokenizer, TextTokenizer
from dpo_core.training import LoopConfig, train

TEXTS = [
    "Name a color that you like. I like red, because the evening sky is red.",
    "Choose one: tea or coffee? Tea, please. The tea is warm, and so is the coffee.",
    "Is the sky blue? Yes, the sky is blue. No, at night the sky is black.",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    + CHATML
)


def byte_level(bos: bool = False):
    """A tokenizer as GPT-2's and Llama 3's are made; with `bos`, one that begins every text with a token."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    made.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    return made


def word_pieces():
    """A tokenizer as Llama 2's is made: a mark for each space, and one before the text."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"])
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return made


KINDS = {
    "byte level": (byte_level, {}, CHATML),
    "byte level with a beginning": (lambda: byte_level(bos=True), {}, STRICT),
    "word pieces": (
        word_pieces,
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": None},
        None,
    ),
}


def make_folder(folder, kind="byte level", **changes):
    """A small random Llama with a tokenizer, as transformers writes them."""
    transformers = pytest.importorskip("transformers")
    make, special, template = KINDS[kind]
    special = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        **special,
    }
    made = make()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, **{n: t for n, t in special.items() if t}
    )
    tokenizer.chat_template = template
    sizes = {
        "vocab_size": made.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**sizes, **changes}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("theirs") / "model")


ROWS = [
    {"prompt": "Is the sky blue?", "chosen": " Yes.", "rejected": " No, it is black."},
    {"prompt": "Tea or coffee?", "chosen": " Tea, please.", "rejected": " Coffee."},
    {"prompt": "Name a color.", "chosen": " red", "rejected": " the evening"},
    {"prompt": "Is tea warm?", "chosen": " Yes, warm.", "rejected": " No."},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------- the tokenizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [*TEXTS, "", "é 天 \U0001f600", "  two  spaces\n\n", "<|im_end|>"])
def test_ids_and_texts_are_those_of_transformers(tmp_path, kind, text):
    transformers = pytest.importorskip("transformers")
    make_folder(tmp_path, kind)
    ours, theirs = TextTokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = ours.encode(text)
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert ours.encode(ours.begin + text) == theirs(text)["input_ids"] or kind == "word pieces"
    assert len(ours.encode(ours.begin)) == len(theirs("")["input_ids"])


@pytest.mark.parametrize("kind", ["byte level", "byte level with a beginning"])
def test_prompts_are_those_of_the_chat_template(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    make_folder(tmp_path, kind)
    ours, theirs = TextTokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    talk = [
        {"role": "user", "content": "Is the sky blue?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    for messages in (talk, talk[:1]):
        how = {"tokenize": False, "add_generation_prompt": True}
        assert ours.prompt(messages) == theirs.apply_chat_template(messages, **how)
    assert ours.prompt("Is the sky blue?") == ours.prompt(talk[:1])


def test_a_row_begins_with_the_prompts_own_ids_whatever_follows(theirs):
    """TRL cuts a row at the length of its prompt, also where the tokenizer joined both sides."""
    tokenizer = read_tokenizer(theirs)
    prompts, answers = ["Is the sk", "Is the sky"], ["y blue?<|im_end|>", " blue?<|im_end|>"]
    joined = tokenizer.encode(prompts[0] + answers[0])
    assert joined[: len(tokenizer.encode(prompts[0]))] != tokenizer.encode(prompts[0])
    ids, mask = tokenizer.collate(prompts, answers)
    for row, prompt, answer in zip(range(2), prompts, answers):
        assert ids[row][~mask[row]][: len(tokenizer.encode(prompt))].tolist() == tokenizer.encode(
            prompt
        )
        assert tokenizer.decode(ids[row][mask[row]]) == answer
        assert ids[row][mask[row]][-1] == tokenizer.eos_id


def test_one_interface(theirs):
    """Code that is handed either tokenizer must find the same attributes and methods."""
    text, book = read_tokenizer(theirs), CharTokenizer()
    for name in (
        *("vocab_size", "pad_id", "bos_id", "eos_id", "end", "encode", "decode", "pad"),
        *("collate", "decode_all", "prompt", "answer"),
    ):
        assert type(getattr(text, name)) is type(getattr(book, name)), name
    assert book.prompt("54") == book.prompt([{"role": "user", "content": "54"}]) == "S54="
    for tokenizer, prompt in ((text, "Is the sky blue?"), (book, "S54=")):
        answer = tokenizer.answer("27+27" if tokenizer is book else " Yes.")
        assert tokenizer.answer(answer) == answer and answer.endswith(tokenizer.end)
        ids, mask = tokenizer.collate([prompt, prompt], [answer, tokenizer.end])
        assert tokenizer.decode_all(ids[:1])[0] == prompt + answer
        assert mask.sum(-1).tolist() == [len(tokenizer.encode(answer)), 1]
        rows, real = tokenizer.pad([[1], [1, 2]], side="left")
        assert rows.tolist() == [[tokenizer.pad_id, 1], [1, 2]] and real.sum() == 3


# ---------------------------------------------------------------- faults


def test_the_shipped_models_have_the_books_tokenizer():
    from dpo_core.checkpoint import model_folder

    assert isinstance(read_tokenizer(model_folder("gen")), CharTokenizer)


def fault(theirs, tmp_path, change):
    folder = tmp_path / "model"
    shutil.copytree(theirs, folder)
    change(folder)
    with pytest.raises(ValueError) as error:
        open_model(folder)
    return str(error.value)


def edit(name, **changes):
    def change(folder):
        stored = json.loads((folder / name).read_text(encoding="utf-8"))
        stored.update(changes)
        (folder / name).write_text(json.dumps(stored), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "is no tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("not"), "is no tokenizer"),
        (lambda f: (f / "tokenizer_config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "tokenizer_config.json").write_text("[]"), "holds no JSON object"),
        (edit("tokenizer_config.json", eos_token="<|end|>"), "eos_token is '<|end|>'"),
        (edit("tokenizer_config.json", eos_token=None), "eos_token is ''"),
        (edit("tokenizer_config.json", eos_token="<|pad|>"), "ends a text with '<|pad|>', id 0"),
        (edit("config.json", eos_token_id=[5, 6]), "ends a text with '<|im_end|>', id 2"),
        (edit("tokenizer_config.json", chat_template="{% if %}"), "its chat template is none"),
    ],
)
def test_a_tokenizer_that_is_not_this_models_is_refused(theirs, tmp_path, change, said):
    def whole(folder):
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        (folder / "generation_config.json").unlink(missing_ok=True)
        change(folder)

    assert said in fault(theirs, tmp_path, whole)


def test_a_vocabulary_smaller_than_the_ids_is_refused(tmp_path):
    make_folder(tmp_path, vocab_size=300)
    with pytest.raises(CheckpointError, match="ids up to 319, the model a vocabulary of 300"):
        open_model(tmp_path)


def test_a_template_that_fails_is_named(tmp_path, capsys):
    make_folder(tmp_path / "m", "byte level with a beginning")
    tokenizer = read_tokenizer(tmp_path / "m")
    with pytest.raises(ValueError, match=r"chat template fails on .*: no system role here"):
        tokenizer.prompt([{"role": "system", "content": "Be kind."}])
    rows = [
        {
            "prompt": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Tea?"},
            ],
            "chosen": [{"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
    ] * 2
    path = write(tmp_path / "rows.jsonl", rows)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "m"), "--pairs-file", str(path)]) == 2
    said = capsys.readouterr().err
    assert "line 1, is not a pair: the chat template fails" in said and said.count("\n") == 1


def test_a_template_runs_in_a_sandbox(theirs, tmp_path):
    """A model folder comes from strangers; its template is a program."""
    folder = tmp_path / "model"
    shutil.copytree(theirs, folder)
    (folder / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    with pytest.raises(ValueError, match="chat template fails"):
        read_tokenizer(folder).prompt("Tea?")


# ---------------------------------------------------------------- sampling, scoring, pairs


def test_greedy_answers_are_those_of_transformers(theirs):
    transformers = pytest.importorskip("transformers")
    model, tokenizer, _ = open_model(theirs)
    prompts = [tokenizer.prompt(q) for q in ("Is the sky blue?", "Tea or coffee, please?", "Tea?")]
    ours = generate(model, prompts, temperature=0, max_new_tokens=12, tokenizer=tokenizer)
    their = transformers.AutoModelForCausalLM.from_pretrained(theirs)
    reader = transformers.AutoTokenizer.from_pretrained(theirs, padding_side="left")
    batch = reader(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    out = their.generate(**batch, do_sample=False, max_new_tokens=12)
    width = batch["input_ids"].shape[1]
    assert ours == tokenizer.decode_all(out[:, width:])
    assert len(set(ours)) > 1


def test_scores_are_those_of_the_whole_texts(theirs):
    transformers = pytest.importorskip("transformers")
    model, tokenizer, _ = open_model(theirs)
    prompts = [row["prompt"] for row in ROWS]
    answers = [tokenizer.answer(row["chosen"]) for row in ROWS]
    scores = score(model, prompts, answers, tokenizer=tokenizer, batch_size=2)
    their = transformers.AutoModelForCausalLM.from_pretrained(theirs)
    for prompt, answer, found in zip(prompts, answers, scores):
        head = tokenizer.encode(prompt)
        ids = torch.tensor([tokenizer.encode(prompt + answer)])
        logps = their(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
        assert found == pytest.approx(float(logps[len(head) - 1 :].sum()), rel=1e-4)


def as_conversation(row):
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        **{n: [{"role": "assistant", "content": row[n]}] for n in ("chosen", "rejected")},
        "score_chosen": 8.0,
        "score_rejected": 3.0,
    }


def test_pairs_come_in_every_form(theirs, tmp_path):
    model, tokenizer, _ = open_model(theirs)
    plain = read_pairs(write(tmp_path / "a.jsonl", ROWS), model, tokenizer)
    implicit = [{n: row["prompt"] + row[n] for n in ("chosen", "rejected")} for row in ROWS]
    assert read_pairs(write(tmp_path / "b.jsonl", implicit), model, tokenizer) == plain
    talk = read_pairs(
        write(tmp_path / "c.jsonl", [as_conversation(r) for r in ROWS]), model, tokenizer
    )
    assert talk.prompt[0] == tokenizer.prompt(ROWS[0]["prompt"])
    assert talk.chosen == plain.chosen == [row["chosen"] + "<|im_end|>" for row in ROWS]
    whole = [
        {n: as_conversation(r)["prompt"] + as_conversation(r)[n] for n in ("chosen", "rejected")}
        for r in ROWS
    ]
    assert read_pairs(write(tmp_path / "d.jsonl", whole), model, tokenizer) == talk
    # the file's own scores, and back
    talk.write(tmp_path / "e.jsonl")
    assert read_pairs(tmp_path / "e.jsonl", model, tokenizer) == talk


def test_a_shared_beginning_is_cut_between_words(theirs, tmp_path):
    """`The sky` and `The sky is blue` have no prompt `The sk` (trl #6498)."""
    model, tokenizer, _ = open_model(theirs)
    rows = [
        {"chosen": "The sky", "rejected": "The sky is blue"},
        {"chosen": "Human: tea? Assistant: I do", "rejected": "Human: tea? Assistant: It is"},
    ]
    data = read_pairs(write(tmp_path / "a.jsonl", rows), model, tokenizer)
    assert data.prompt == ["The", "Human: tea? Assistant:"]
    assert data.chosen == [" sky<|im_end|>", " I do<|im_end|>"]
    write(tmp_path / "b.jsonl", [{"chosen": "Yes", "rejected": "No"}])
    with pytest.raises(ValueError, match="do not begin with the same words"):
        read_pairs(tmp_path / "b.jsonl", model, tokenizer)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Tea?", "chosen": "", "rejected": "No"}, "chosen is ''"),
        ({"prompt": "Tea?", "chosen": "Tea? Yes", "rejected": "No"}, "repeats the prompt"),
        (
            {"prompt": "Tea?", "chosen": "a<|im_end|>b", "rejected": "No"},
            "after its first <|im_end|>",
        ),
        (
            {"prompt": "Tea? " * 60, "chosen": "Yes", "rejected": "No"},
            "the model has 128 positions",
        ),
        ({"prompt": "Tea?", "completion": "Yes", "label": True}, "KTO's format"),
        (as_conversation(ROWS[0]) | {"rejected": []}, "rejected are 1 messages"),
    ],
)
def test_a_line_that_is_no_pair_is_named(theirs, tmp_path, row, said):
    model, tokenizer, _ = open_model(theirs)
    path = write(tmp_path / "a.jsonl", [ROWS[0], row])
    with pytest.raises(ValueError, match="line 2, is not a pair") as error:
        read_pairs(path, model, tokenizer)
    assert said in str(error.value)


@pytest.mark.parametrize("mixed", [[0, 1], [0, 2], [1, 3], [2, 3]])
def test_a_file_has_one_format(theirs, tmp_path, mixed):
    """A bare question beside one in the chat template: half of the file would train something else."""
    model, tokenizer, _ = open_model(theirs)
    row, other = ROWS[:2]
    forms = [
        row,
        as_conversation(other),
        {n: other["prompt"] + other[n] for n in ("chosen", "rejected")},
        {
            n: as_conversation(other)["prompt"] + as_conversation(other)[n]
            for n in ("chosen", "rejected")
        },
    ]
    path = write(tmp_path / "a.jsonl", [forms[i] for i in mixed])
    with pytest.raises(ValueError, match=r"mixes formats: line 1 is .*, line 2 is "):
        read_pairs(path, model, tokenizer)


def test_accuracy_counts_what_the_chosen_answer_gained(theirs):
    """A likelier chosen answer is no preference that was learnt: the reference had it too."""
    model, tokenizer, _ = open_model(theirs)
    columns = [[row[n] for row in ROWS] for n in ("prompt", "chosen", "rejected")]
    data = with_reference(model, *columns, [1.0] * 4, tokenizer=tokenizer)
    same = preference_accuracy(model, data)
    assert same["accuracy"].value == 0.5 and same["log_ratio_margin"].value == pytest.approx(
        0, abs=1e-6
    )
    raw = sum(c > r for c, r in zip(data.ref_chosen_logps, data.ref_rejected_logps)) / 4
    assert same["raw_accuracy"].value == raw
    lower = data.take(range(4))
    lower.ref_chosen_logps[:3] = [logp - 1 for logp in lower.ref_chosen_logps[:3]]
    found = preference_accuracy(model, lower)
    assert found["accuracy"].value == (3 + 0.5) / 4
    assert found["log_ratio_margin"].value == pytest.approx(0.75, abs=1e-5)


# ---------------------------------------------------------------- training


def gradients(model, step, batch):
    model.zero_grad()
    loss = step(model, batch)["loss"][0]
    loss.backward()
    return loss.detach(), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


@pytest.fixture
def started(theirs):
    """A model, a batch of pairs whose reference it is, and the loss step."""
    model, tokenizer, _ = open_model(theirs)
    columns = [[row[n] for row in ROWS] for n in ("prompt", "chosen", "rejected")]
    data = with_reference(model, *columns, [1.0] * 4, tokenizer=tokenizer)
    return model, data.batches(4, 0)(0), dpo_step(0.1)


def test_a_layer_computed_again_has_the_same_gradient(started):
    model, batch, step = started
    loss, kept = gradients(model, step, batch)
    model.model.checkpointing = True
    calls = []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    again, computed = gradients(model, step, batch)
    assert torch.equal(loss, again) and all(torch.equal(kept[n], computed[n]) for n in kept)
    assert len(calls) == 2 * len(model.model.layers), "nothing was computed again"


def test_bfloat16_products_leave_the_weights_in_float32(started):
    model, batch, step = started
    _, exact = gradients(model, step, batch)
    _, rounded = gradients(model, in_precision(step, "bfloat16"), batch)
    flat = [torch.cat([g.flatten() for g in grads.values()]) for grads in (exact, rounded)]
    assert flat[1].dtype == torch.float32
    assert 1e-5 < (flat[0] - flat[1]).norm() / flat[0].norm() < 0.1
    with pytest.raises(ValueError, match="precision is 'int4'"):
        in_precision(step, "int4")


def test_adapters_begin_as_nothing_and_are_the_reference_when_off(started):
    model, batch, step = started
    before = completion_logps(model, batch["chosen_ids"], batch["chosen_mask"])
    frozen = {n: p.detach().clone() for n, p in model.named_parameters()}
    lora.add_adapters(model, 2, seed=1)
    assert torch.equal(completion_logps(model, batch["chosen_ids"], batch["chosen_mask"]), before)
    rank_times_sides = sum(
        p.shape[0] * 2 + 2 * p.shape[1] for n, p in frozen.items() if "proj" in n
    )
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == rank_times_sides
    live = live_reference(step)
    loss, found = gradients(model, live, batch)
    assert float(loss) / 4 == pytest.approx(0.693147, abs=1e-6) and all(
        ".weight.0." in n for n in found
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        gradients(model, live, batch)
        optimizer.step()
    moved = live(model, batch)["loss"][0] / 4
    assert moved < 0.69
    with lora.adapters_off(model):
        assert torch.equal(
            completion_logps(model, batch["chosen_ids"], batch["chosen_mask"]), before
        )
    assert torch.equal(live(model, batch)["loss"][0] / 4, moved), "the adapters stayed off"
    with torch.no_grad():
        last = completion_logps(model, batch["chosen_ids"], batch["chosen_mask"])
        lora.merge_adapters(model)
        assert torch.equal(completion_logps(model, batch["chosen_ids"], batch["chosen_mask"]), last)
    assert {n for n, _ in model.named_parameters()} == set(frozen)
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(model.model.norm.weight, frozen["model.norm.weight"])
    with pytest.raises(ValueError, match="the policy has no adapters"):
        live(model, batch)


@pytest.mark.parametrize(("rank", "alpha", "scale"), [(2, None, 2.0), (4, 2.0, 0.5), (1, 3.0, 3.0)])
def test_an_adapter_adds_alpha_over_rank_times_b_times_a(started, rank, alpha, scale):
    """Hu et al. 2021, section 4.1; alpha is 2·rank where it is not given."""
    model, *_ = started
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lora.add_adapters(model, rank, alpha)
    change = []
    for adapter in lora.adapters(model):
        adapter.B.data.normal_()
        change.append(scale * adapter.B.detach() @ adapter.A.detach())
    lora.merge_adapters(model)
    changed = [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, plain[name])
    ]
    assert len(changed) == len(change) > 0
    for name, added in zip(changed, change, strict=True):
        assert torch.allclose(model.state_dict()[name] - plain[name], added, atol=1e-5), name


def test_what_adapters_do_not_take(started):
    model, _, _ = started
    for settings, said in (
        ({"rank": 0}, "rank is 0; accepted are whole numbers from 1 to 16"),
        ({"rank": 17}, "rank is 17"),
        ({"rank": 2, "alpha": 0.0}, "alpha is 0.0"),
        ({"rank": 2, "targets": ("lm_head",)}, "unknown targets"),
    ):
        with pytest.raises(ValueError, match=said):
            lora.add_adapters(model, **settings)
    lora.add_adapters(model, 2)
    with pytest.raises(ValueError, match="has adapters already"):
        lora.add_adapters(model, 2)


def test_next_token_training_reads_words(theirs):
    model, tokenizer, _ = open_model(theirs)
    texts = [row["prompt"] for row in ROWS], [tokenizer.answer(row["chosen"]) for row in ROWS]
    ids, mask = tokenizer.collate(*texts)
    config = LoopConfig(steps=30, learning_rate=1e-2, warmup=2, log_every=30)
    batch = {"input_ids": ids, "completion_mask": mask}
    train(model, lambda step: batch, sft_step, config, progress=False)
    answers = generate(model, texts[0], temperature=0, max_new_tokens=12, tokenizer=tokenizer)
    assert answers == texts[1]


ARGUMENTS = [
    *("--optimizer", "adamw", "--learning-rate", "1e-3", "--steps", "6", "--warmup", "1"),
    *(
        "--batch-size",
        "4",
        "--log-every",
        "2",
        "--save-every",
        "2",
        "--device",
        "cpu",
        "--threads",
        "1",
    ),
]


@pytest.fixture
def place(theirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(theirs, tmp_path / "theirs")
    write(tmp_path / "pairs.jsonl", [as_conversation(row) for row in ROWS])
    return tmp_path


@pytest.mark.parametrize(
    "more", [[], ["--lora-rank", "2", "--checkpointing"], ["--accumulate", "2"]]
)
def test_a_model_trained_here_is_again_a_folder_of_theirs(place, capsys, more):
    transformers = pytest.importorskip("transformers")
    command = ["train-dpo", "--model", "theirs", "--pairs-file", "pairs.jsonl", *ARGUMENTS, *more]
    assert main([*command, "--output", "new"]) == 0
    ours, tokenizer, recipe = open_model("new")
    assert recipe["pairs_file"] == "pairs.jsonl" and recipe["last"]["loss"] < 0.69
    reader, model = (
        kind.from_pretrained("new")
        for kind in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM)
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (place / "new" / name).read_bytes() == (place / "theirs" / name).read_bytes()
    prompt = tokenizer.prompt("Is the sky blue?")
    ids = reader(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == tokenizer.encode(prompt)
    torch.testing.assert_close(ours(ids), model(ids).logits, rtol=1e-4, atol=1e-4)
    assert model.config.eos_token_id == tokenizer.eos_id
    # it prefers what it was taught, and answers
    capsys.readouterr()
    evaluate = ["evaluate", "new", "--pairs-file", "pairs.jsonl", "--reference", "theirs", "--json"]
    assert main(evaluate) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"] == 4 and report["accuracy"]["value"] == 1.0
    assert main(["generate", "new", "Is the sky blue?", "--n", "2", "--max-new-tokens", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith("Is the sky blue?\t") for line in lines)
    # and goes on from there
    again = ["train-dpo", "--model", "new", "--pairs-file", "pairs.jsonl", *ARGUMENTS]
    assert main([*again, "--output", "newer"]) == 0
    # over the old one, but over no stranger's
    assert main([*command, "--output", "new"]) == 0
    assert main([*command, "--output", "theirs"]) == 2


@pytest.mark.parametrize("more", [[], ["--lora-rank", "2"]])
def test_a_killed_training_of_theirs_ends_in_the_same_bits(place, monkeypatch, more):
    command = ["train-dpo", "--model", "theirs", "--pairs-file", "pairs.jsonl", *ARGUMENTS, *more]
    assert main([*command, "--output", "whole"]) == 0
    from dpo_core import run_state

    real, saves = run_state.RunState.save, []

    def stop(self, place):
        real(self, place)
        saves.append(self.step)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_state.RunState, "save", stop)
    assert main([*command, "--output", "parts"]) == 130 and saves == [2, 4]
    monkeypatch.setattr(run_state.RunState, "save", real)
    assert main([*command, "--output", "parts", "--resume"]) == 0
    whole, parts = (
        load_model(name, any_vocabulary=True).state_dict() for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[n], parts[n]) for n in whole)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train-dpo --model theirs", "needs --pairs-file"),
        ("train-dpo --model theirs --pairs-file pairs.jsonl", "needs --optimizer adamw"),
        ("train-dpo --model theirs --pairs-file pairs.jsonl --optimizer adamw", "learning_rate is 0.002"),
        ("train-dpo --lora-alpha 2", "lora_alpha has no effect without lora_rank"),
        ("train-dpo --precision bfloat16 --device cpu", "accepted on CUDA only"),
        ("train-dpo --batch-size 4 --accumulate 5", "accumulate is 5; accepted are whole numbers to batch_size, 4"),
        ("train-dpo --lora-rank 17 --steps 1 --pairs 4 --batch-size 4", "rank is 17"),
        ("train-dpo --precision int4", "unknown precision 'int4'"),
        ("train-dpo --model theirs --pairs-file none.jsonl --optimizer adamw --learning-rate 1e-6", "no file of pairs"),
        ("train-dpo --model theirs --pairs-file pairs.jsonl --optimizer adamw --learning-rate 1e-6"
         " --reference gen --allow-other-reference", "gen.model reads other tokens than theirs"),
        ("evaluate theirs", "needs --pairs-file"),
        ("evaluate theirs --pairs-file pairs.jsonl", "name one with --reference"),
        ("evaluate theirs --pairs-file pairs.jsonl --n 9", "n has no effect on a file of pairs"),
        ("evaluate gen --pairs-file pairs.jsonl", "line 1, is not a pair"),
    ],
)  # fmt: skip
def test_a_command_that_does_not_fit_a_model_says_so(place, capsys, command, said):
    if "lora-rank 17" in command:
        said = "rank is 17; accepted are whole numbers from 1 to 16"
        command = command.replace(
            "train-dpo",
            "train-dpo --model theirs --pairs-file pairs.jsonl --optimizer adamw --learning-rate 1e-6",
        ).replace("--pairs 4 ", "")
    before = sorted(place.iterdir())
    assert (
        main([*command.split(), *([] if command.startswith("eval") else ["--output", "out"])]) == 2
    )
    text = capsys.readouterr().err
    assert said in text and "Traceback" not in text
    assert sorted(place.iterdir()) == before, "something was half written"


def test_preference_accuracy_of_the_books_models(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make = "make-pairs --source on-policy --model gen --pairs 200 --labels deterministic --seed 5 --output p.jsonl"
    assert main(make.split()) == 0
    capsys.readouterr()
    assert main(["evaluate", "dpo", "--pairs-file", "p.jsonl", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["accuracy"]["low"] > 0.9
    assert main(["evaluate", "gen", "--pairs-file", "p.jsonl", "--reference", "gen", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"]["value"] == 0.5


def test_a_model_saved_with_its_tokenizer_is_whole(theirs, tmp_path):
    model, tokenizer, _ = open_model(theirs)
    save_model(model, tmp_path / "m", {"a": 1}, tokenizer)
    again, reader, recipe = open_model(tmp_path / "m")
    assert recipe == {"a": 1} and reader.files == tokenizer.files
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
    save_model(load_pretrained("gen"), tmp_path / "gen")
    assert isinstance(read_tokenizer(tmp_path / "gen"), CharTokenizer)


def test_a_model_of_theirs_goes_to_trl_and_back(place):
    """What TRL saves of a tokenizer and a configuration is read here again, and trained on."""
    trl = pytest.importorskip("trl", reason="parity needs the `test` extra")
    from datasets import load_dataset

    command = ["train-dpo", "--pairs-file", "pairs.jsonl", *ARGUMENTS]
    assert main([*command, "--model", "theirs", "--output", "ours"]) == 0
    trainer = trl.DPOTrainer(
        model="ours",
        args=trl.DPOConfig(
            output_dir="runs",
            max_steps=2,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=load_dataset("json", data_files="pairs.jsonl", cache_dir="cache")["train"],
    )
    trainer.train()
    trainer.save_model("trls")
    model, tokenizer, recipe = open_model("trls")
    assert recipe == {} and tokenizer.eos_id == read_tokenizer("theirs").eos_id
    trained = dict(trainer.model.named_parameters())
    assert all(torch.equal(p, trained[name].float()) for name, p in model.named_parameters())
    begun = open_model("ours")[0]
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), begun.parameters()))
    ours, theirs = (read_tokenizer(name) for name in ("theirs", "trls"))
    assert ours.prompt("Tea or coffee?") == theirs.prompt("Tea or coffee?")
    assert ours.encode(TEXTS[0]) == theirs.encode(TEXTS[0])
    assert main([*command, "--model", "trls", "--output", "back"]) == 0
