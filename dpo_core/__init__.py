"""The library of *DPO from Zero*: a small Llama, the losses, sampling and the training loop.

Read it in the order in which the book needs it: tokenizer, task, model, training, steps, sampling,
evaluation, tabular, theory, losses, family, pairs, preferences, reward, policy_gradient, rl, optim,
run_state, checkpoint, commands.
"""

from dpo_core.checkpoint import CheckpointError, load_model, load_pretrained, save_model
from dpo_core.losses import preference_loss, sequence_logps, token_logps
from dpo_core.model import KVCache, Llama, ModelConfig
from dpo_core.sampling import generate, score
from dpo_core.task import BookTask, ClassicTask, Verdict, judge
from dpo_core.tokenizer import CharTokenizer

__version__ = "0.1.0"

__all__ = [
    "BookTask",
    "CharTokenizer",
    "CheckpointError",
    "ClassicTask",
    "KVCache",
    "Llama",
    "ModelConfig",
    "Verdict",
    "generate",
    "judge",
    "load_model",
    "load_pretrained",
    "preference_loss",
    "save_model",
    "score",
    "sequence_logps",
    "token_logps",
]
