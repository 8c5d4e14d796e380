"""The library of *DPO from Zero*: a small Llama, the losses, sampling and the training loop.

Read it in the order in which the book needs it: tokenizer, task, model, training, steps, sampling,
evaluation, tabular, theory, losses, family, pairs, preferences, reward, policy_gradient, rl, optim,
storage, checkpoint, run_state, threads, kernels, packing, compilation, cost, commands.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

NAMES = {
    "checkpoint": ("CheckpointError", "load_model", "load_pretrained", "save_model"),
    "losses": ("preference_loss", "sequence_logps", "token_logps"),
    "model": ("KVCache", "Llama", "ModelConfig"),
    "sampling": ("generate", "score"),
    "task": ("BookTask", "ClassicTask", "Verdict", "judge"),
    "threads": ("use_threads",),
    "tokenizer": ("CharTokenizer",),
}
MODULE_OF = {name: module for module, names in NAMES.items() for name in names}
__all__ = sorted(MODULE_OF)


def __getattr__(name: str) -> Any:
    """The names above, from their modules when first asked for: torch takes seconds to load."""
    if name not in MODULE_OF:
        raise AttributeError(f"module 'dpo_core' has no attribute {name!r}")
    value = getattr(import_module(f"dpo_core.{MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
