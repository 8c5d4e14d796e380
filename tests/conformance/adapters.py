"""What answers the conformance cases for dpo_core and for TRL: each asks the library's own code."""

import json
import math
from collections import defaultdict
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import torch

from tests.conformance.run import NotAsked, Refused

TOKENIZERS = Path(__file__).parent / "tokenizers"
FOUR = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
DOUBLE = torch.float64


def logits_of(table, dtype=DOUBLE):
    """A table of probabilities, written as fractions, as logits: (V, V), or (S, V, V) of S tables."""
    if isinstance(table[0][0], list):
        return torch.stack([logits_of(one, dtype) for one in table])
    logits = torch.tensor(
        [[float(Fraction(p)) for p in line] for line in table], dtype=DOUBLE
    ).log()
    return (logits - logits[:, :1]).to(dtype)  # of a uniform line: zeros, which any precision has


def padded(rows, pad_id):
    """Right-padded ids and masks of the rows, (B, T) each."""
    width = max(len(row["ids"]) for row in rows)
    ids = [row["ids"] + [pad_id] * (width - len(row["ids"])) for row in rows]
    masks = [row["mask"] + [0] * (width - len(row["mask"])) for row in rows]
    return torch.tensor(ids), torch.tensor(masks)


class Table(torch.nn.Module):
    """A model whose next-token logits are the rows of a table, chosen by the current token and its place."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits if logits.dim() == 3 else logits[None])

    def forward(self, ids):
        return self.logits[torch.arange(ids.shape[1]) % len(self.logits), ids]


class DpoCore:
    """dpo_core: the functions that its commands train with."""

    name = "dpo_core"

    def loss(self, case):
        from dpo_core.losses import preference_loss

        four = [torch.tensor([case[n]], dtype=DOUBLE, requires_grad=True) for n in FOUR]
        loss_type = {"ipo": "ipo_sum"}.get(case["loss_type"], case["loss_type"])
        options = {k: case[k] for k in ("beta", "label_smoothing", "gamma_beta_ratio") if k in case}
        for name in ("chosen_length", "rejected_length"):
            if name in case:
                options[name + "s"] = torch.tensor([case[name]])
        if "preference_prob" in case:
            options["preference_prob"] = torch.tensor([case["preference_prob"]], dtype=DOUBLE)
        loss, *_ = preference_loss(*four, loss_type=loss_type, **options)
        grads = torch.autograd.grad(loss.sum(), four[:2])
        return dict(
            zip(("loss", "grad_chosen", "grad_rejected"), [loss.item(), *map(float, grads)])
        )

    def kto(self, case):
        from dpo_core.losses import kto_loss

        policy = torch.tensor(case["policy_logps"], dtype=DOUBLE, requires_grad=True)
        losses, _ = kto_loss(
            policy,
            torch.tensor(case["ref_logps"], dtype=DOUBLE),
            torch.tensor(case["desirable"]),
            **{k: case[k] for k in ("beta", "kl", "desirable_weight", "undesirable_weight")},
        )
        grads = torch.autograd.grad(losses.sum(), policy)[0]
        return {"losses": losses.tolist(), "grads": grads.tolist()}

    def logps(self, case):
        from dpo_core.packing import completion_logps

        model = Table(
            logits_of(case["probabilities"], getattr(torch, case.get("dtype", "float64")))
        )
        with torch.no_grad():
            found = completion_logps(model, *padded(case["rows"], case["pad_id"])).sum(-1)
        return {"logps": found.tolist()}

    def step(self, case):
        from dpo_core.steps import dpo_step, live_reference, sft_step

        model = Table(logits_of(case["policy"]))
        if case["objective"] == "dpo":
            reference = Table(logits_of(case["reference"]))
            step = live_reference(dpo_step(case["beta"]), reference)
        else:
            step = sft_step
        total, count = 0.0, 0
        for members in case["micro_batches"]:
            found, among = step(model, self._batch(case, members))["loss"]
            found.backward()
            total, count = total + found.item(), count + int(among)
        return {"loss": total / count, "grad": (model.logits.grad[0] / count).tolist()}

    def _batch(self, case, members):
        if case["objective"] == "sft":
            names = ("input_ids", "completion_mask")
            return dict(zip(names, padded([case["rows"][i] for i in members], case["pad_id"])))
        rows = [case["pairs"][i][side] for side in ("chosen", "rejected") for i in members]
        ids, mask = padded(rows, case["pad_id"])
        return {
            f"{side}_{name}": part
            for name, both in (("ids", ids), ("mask", mask))
            for side, part in zip(("chosen", "rejected"), both.chunk(2))
        }

    def tokens(self, case):
        from dpo_core import tokenizer as tokenizers
        from dpo_core.pairs import pair_of_line

        known = {}
        if case["tokenizer"] == "char":
            tokenizer = tokenizers.CharTokenizer()
        else:
            tokenizer = known["tokenizer"] = tokenizers.TextTokenizer(
                TOKENIZERS / case["tokenizer"]
            )
        pair = pair_of_line(json.dumps(case["row"]), case.get("max_length"), **known)
        found = {}
        for side in ("chosen", "rejected"):
            ids, mask = tokenizer.collate([pair["prompt"]], [pair[side]])
            found[side] = {"ids": ids[0].tolist(), "mask": mask[0].int().tolist()}
        return {"boundary": found["chosen"]["mask"].index(1), **found}


class Trl:
    """TRL: the methods of its trainers on rows, numbers and models that are given to them."""

    name = "TRL"

    @cached_property
    def own(self):
        """How chapter 11 asks TRL's methods for the loss of one pair."""
        import runpy

        path = Path(__file__).parents[2] / "chapters" / "data" / "trl_losses.py"
        return SimpleNamespace(**runpy.run_path(str(path)))

    def loss(self, case):
        if "preference_prob" in case:
            raise NotAsked("TRL has no soft labels")
        four = [torch.tensor(case[n], dtype=DOUBLE, requires_grad=True) for n in FOUR]
        lengths = (case.get("chosen_length", 1), case.get("rejected_length", 1))
        kind = case["loss_type"]
        compute = self.own.without_reference if kind in ("simpo", "orpo") else self.own.dpo
        loss = compute(case, (*four, *lengths), four).sum()
        grads = torch.autograd.grad(loss, four[:2])
        return dict(
            zip(("loss", "grad_chosen", "grad_rejected"), [loss.item(), *map(float, grads)])
        )

    def kto(self, case):
        values = (*case["policy_logps"], *case["ref_logps"])
        four = [torch.tensor(v, dtype=DOUBLE, requires_grad=True) for v in values]
        losses = self.own.kto(case, (*values, 1, 1), four)
        grads = torch.autograd.grad(losses.sum(), four[:2])
        return {"losses": losses.tolist(), "grads": [*map(float, grads)]}

    def logps(self, case):
        if isinstance(case["probabilities"][0][0], list):
            raise NotAsked("a table for each place is no Llama")
        dtype = getattr(torch, case.get("dtype", "float32"))
        model = bigram_llama(logits_of(case["probabilities"]), dtype)
        found = []
        for index in range(len(case["rows"])):
            # among all rows, so that it is padded; both answers of a pair are the same one
            rows = case["rows"][index:] + case["rows"][:index]
            me = self._trainer(1.0)
            self._loss(me, model, *padded(rows + rows, case["pad_id"]), None)
            means = me._metrics["train"]["logps/chosen"]
            found.append(means[0] * len(rows))
        if len(found) > 1:
            raise_if_apart(found)
            found = self._one_by_one(case, model)
        return {"logps": found}

    def _one_by_one(self, case, model):
        """Each row beside a longer one that counts nothing, so that it stays padded."""
        width = max(len(row["ids"]) for row in case["rows"])
        blank = {"ids": [case["pad_id"]] * width, "mask": [0] * width}
        found = []
        for row in case["rows"]:
            me = self._trainer(1.0)
            rows = padded([row, blank, row, blank], case["pad_id"])
            self._loss(me, model, *rows, None)
            found.append(me._metrics["train"]["logps/chosen"][0] * 2)
        return found

    def step(self, case):
        if case["objective"] == "sft":
            raise NotAsked("SFTTrainer leaves this mean to the model of transformers")
        policy = bigram_llama(logits_of(case["policy"]), torch.float32)
        reference = bigram_llama(logits_of(case["reference"]), torch.float32)
        losses = []
        for members in case["micro_batches"]:
            rows = [case["pairs"][i][side] for side in ("chosen", "rejected") for i in members]
            batch = padded(rows, case["pad_id"])
            losses.append(self._loss(self._trainer(case["beta"]), policy, *batch, reference))
        # as transformers' Trainer.training_step: each divided by their number
        loss = sum(losses) / len(losses)
        loss.backward()
        grad = policy.lm_head.weight.grad.T / policy.scale
        return {"loss": loss.item(), "grad": grad.tolist()}

    def _trainer(self, beta):
        """What DPOTrainer._compute_loss looks up in `self`."""

        def same(value):
            return value

        return SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same),
            args=SimpleNamespace(gradient_checkpointing_kwargs=None),
            aux_loss_enabled=False,
            beta=beta,
            label_smoothing=0.0,
            ld_alpha=None,
            f_divergence_type="reverse_kl",
            loss_types=["sigmoid"],
            loss_weights=[1.0],
            use_weighting=False,
            precompute_ref_logps=True,
            _total_train_tokens=0,
            _tp_size=1,
            _metrics={"train": defaultdict(list)},
        )

    def _loss(self, me, model, ids, mask, reference):
        from trl import DPOTrainer

        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "completion_mask": mask,
        }
        zeros = torch.zeros(len(ids) // 2)
        refs = (zeros, zeros)
        if reference is not None:
            labels = ids.masked_fill(mask == 0, -100)
            with torch.no_grad():
                logps = reference(input_ids=ids, labels=labels, fused_lm_head=True).log_probs
            refs = logps[:, -(ids.shape[1] - 1) :].sum(-1).chunk(2)
        inputs |= dict(zip(("ref_chosen_logps", "ref_rejected_logps"), refs))
        return DPOTrainer._compute_loss(me, model, inputs, False)

    def tokens(self, case):
        import datasets
        from transformers import PreTrainedTokenizerFast
        from trl import DPOTrainer
        from trl.trainer.dpo_trainer import DataCollatorForPreference

        tokenizer = PreTrainedTokenizerFast.from_pretrained(TOKENIZERS / case["tokenizer"])
        limit = case.get("max_length")
        args = SimpleNamespace(
            dataset_num_proc=None, max_length=limit, truncation_mode="keep_start"
        )
        me = SimpleNamespace(_tokenizer=tokenizer)
        datasets.disable_progress_bars()
        rows = datasets.Dataset.from_list([case["row"]])
        rows = DPOTrainer._prepare_dataset(me, rows, tokenizer, args, "train")
        if not len(rows):
            raise Refused("the row is dropped")
        collator = DataCollatorForPreference(tokenizer.pad_token_id, limit)
        batch = collator([rows[0]])
        found = {}
        for index, side in enumerate(("chosen", "rejected")):
            real = batch["attention_mask"][index].bool()
            found[side] = {
                "ids": batch["input_ids"][index][real].tolist(),
                "mask": batch["completion_mask"][index][real].tolist(),
            }
        return {"boundary": len(rows[0]["prompt_ids"]), **found}


def raise_if_apart(totals):
    """The sum over a batch must not depend on the order of its rows."""
    if max(totals) - min(totals) > 1e-4:
        raise Refused(f"the batch's sum depends on the order of its rows: {totals}")


def bigram_llama(logits, dtype):
    """A Llama without layers, which is a table: logits of the next token by the current one alone.

    Its embeddings are unit vectors; the last norm scales them by `scale`, and the head undoes that.
    """
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    size, epsilon = len(logits), 1e-12
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        head_dim=2,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=1,
        rms_norm_eps=epsilon,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config)
    model.scale = 1 / math.sqrt(1 / size + epsilon)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(logits.T / model.scale)
    model.to(dtype)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    return model
