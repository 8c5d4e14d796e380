"""What commands read of the recipe that a model carries, checked before it is believed."""

from dataclasses import dataclass
from typing import Any

from dpo_core.family import FAMILY
from dpo_core.policy_gradient import METHODS
from dpo_core.preferences import LABELS
from dpo_core.task import TASKS, Task, make_task
from dpo_core.theory import REWARDS


@dataclass(frozen=True)
class Recipe:
    """The part of a recipe that says what a run should have led to; None where it says nothing."""

    reward: str | None
    labels: str | None
    loss_type: str | None
    method: str | None
    beta: float | None
    label_smoothing: float
    reference: tuple[str, str] | None  # its folder, seen from the model's, and its fingerprint


def task_of(recipe: dict[str, Any]) -> Task:
    """The task that a model was trained on; `book` where its recipe does not say.

    Raises:
        ValueError: the recipe names another.
    """
    return make_task(_word(recipe, "task", tuple(TASKS)) or "book")


def read(recipe: dict[str, Any]) -> Recipe:
    """The typed part of a recipe.

    Raises:
        ValueError: a value is not what a training of ours writes; the message names it.
    """
    reference = recipe.get("reference")
    if isinstance(reference, dict):
        found = reference.get("folder"), reference.get("fingerprint")
        if not all(isinstance(part, str) and part.isprintable() for part in found):
            raise ValueError(f"the recipe's reference is {reference!r:.80}; accepted are two texts")
        reference = found
    elif reference is not None:
        raise ValueError(f"the recipe's reference is {reference!r:.80}; accepted is a JSON object")
    return Recipe(
        reward=_word(recipe, "reward", REWARDS),
        labels=_word(recipe, "labels", LABELS),
        loss_type=_word(recipe, "loss_type", tuple(FAMILY)),
        method=_word(recipe, "method", tuple(METHODS)),
        beta=_number(recipe, "beta", 1e6),
        label_smoothing=_number(recipe, "label_smoothing", 0.5) or 0.0,
        reference=reference,
    )


def _word(recipe: dict[str, Any], name: str, accepted: tuple[str, ...]) -> str | None:
    value = recipe.get(name)
    if value is not None and (not isinstance(value, str) or value not in accepted):
        words = ", ".join(accepted)
        raise ValueError(f"the recipe's {name} is {value!r:.40}; accepted are {words}")
    return value


def _number(recipe: dict[str, Any], name: str, high: float) -> float | None:
    value = recipe.get(name)
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (real and 0 <= value <= high):
        raise ValueError(f"the recipe's {name} is {value!r:.40}; accepted is 0 to {high:g}")
    return None if value is None else float(value)
