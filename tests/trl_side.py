"""TRL's side of a comparison: trainers on our folders, built from the chapter's table of settings, and what they did."""

import contextlib
import logging
import warnings
from dataclasses import dataclass, field

import datasets
import torch
import transformers
import trl

from data.trl_settings import OURS, trl_arguments
from dpo_core.model import ModelConfig
from dpo_core.training import LoopConfig

GROUPED = ModelConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    tie_word_embeddings=True,
)

TRAINERS = {
    "dpo": (trl.DPOTrainer, trl.DPOConfig),
    "sft": (trl.SFTTrainer, trl.SFTConfig),
    "reward": (trl.RewardTrainer, trl.RewardConfig),
    "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
}


@dataclass
class Seen(transformers.TrainerCallback):
    """Looks on while a trainer works: the gradients of each step (after clipping), the batches."""

    gradients: list[dict[str, torch.Tensor]] = field(default_factory=list)
    batches: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})


@contextlib.contextmanager
def quiet():
    """Neither bars nor hints: what these libraries tell is nothing that a test reads."""
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    transformers.utils.logging.set_verbosity(before)
    logging.getLogger("trl").setLevel(logging.ERROR)


def trainer_of(
    kind,
    model,
    data,
    output_dir,
    *,
    ref_model=None,
    reward_funcs=None,
    chat_template=None,
    **settings,
):
    """A trainer of TRL: `kind` is dpo, sft, reward or grpo.

    Args:
        model: a folder, or a model of transformers.
        data: a dictionary of columns, or a Dataset.
        settings: what is set besides the table's; None takes TRL's default.
    """
    trainer, config = TRAINERS[kind]
    arguments = trl_arguments(kind, str(output_dir), **settings)
    arguments = {name: value for name, value in arguments.items() if value is not None}
    folder = model if isinstance(model, str) else model.config._name_or_path
    more = {"ref_model": ref_model} if kind == "dpo" else {}
    more |= {"reward_funcs": reward_funcs} if kind == "grpo" else {}
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = chat_template or None
        made = trainer(
            model=model,
            args=config(**arguments),
            train_dataset=datasets.Dataset.from_dict(data) if isinstance(data, dict) else data,
            processing_class=tokenizer,
            **more,
        )
    made.remove_callback(transformers.PrinterCallback)
    made.seen = Seen()
    made.add_callback(made.seen)
    compute = made.compute_loss

    def watched(model, inputs, *args, **kwargs):
        kept = {n: v.clone() for n, v in inputs.items() if torch.is_tensor(v)}
        made.seen.batches.append(kept)
        return compute(model, inputs, *args, **kwargs)

    made.compute_loss = watched
    return made


def trained(made):
    """Train; returns its lines, one a step."""
    with quiet():
        made.train()
    return [line for line in made.state.log_history if "loss" in line]


def opened(folder, **changes):
    """A folder as transformers opens it."""
    with quiet():
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **changes)


def their_reward_model(folder):
    """The folder with a head of one number, as RewardTrainer opens it; the head is drawn, as there is none."""
    with quiet():
        transformers.set_seed(0)
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)


def our_loop(kind, steps):
    """The settings of our loop that meet TRL's."""
    table = {name: row[0] for name, row in OURS.items()}
    rate = trl_arguments(kind, "").get("learning_rate", 1e-4)  # of the reward model: TRL's default
    return LoopConfig(steps=steps, learning_rate=rate, log_every=1, **table)


def our_gradients(model, loss_step, batch, max_grad_norm=1.0):
    """Loss, gradient norm and, by name, the clipped gradients of one step of ours."""
    model.zero_grad()
    total, count = loss_step(model, batch)["loss"]
    loss = total / count
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    return loss.item(), norm.item(), {n: p.grad.clone() for n, p in model.named_parameters()}
