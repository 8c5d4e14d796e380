"""A reward model: the language model's backbone with one number in place of the vocabulary
(chapters 5 and 12).

It is Hugging Face's LlamaForSequenceClassification with one label, names included: the number is
read at the answer's last token. Trained on preference pairs, it learns Bradley-Terry rewards; read
at every token, it is the critic of PPO.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpo_core.model import Backbone, Llama
from dpo_core.sampling import in_batches


class RewardModel(nn.Module):
    """r(x, y): ids in, one number a sequence out, in float32. It starts at the language model's
    weights, with r = 0.
    """

    def __init__(self, base: Llama) -> None:
        super().__init__()
        self.config = base.config
        self.model = Backbone(base.config)
        self.model.load_state_dict(base.model.state_dict())
        self.score = nn.Linear(base.config.hidden_size, 1, bias=False)
        nn.init.zeros_(self.score.weight)
        self.to(next(base.parameters()).device)

    def forward(self, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
        """The rewards of a batch.

        Args:
            input_ids: (B, T) int64, padded on the right.
            completion_mask: (B, T), nonzero on the completion's tokens; the last of them is read.

        Returns:
            (B,) rewards; only their differences between answers to one prompt mean anything.

        Raises:
            ValueError: the shapes differ, or a row has no completion.
        """
        if completion_mask.shape != input_ids.shape or not completion_mask.any(-1).all():
            raise ValueError(
                f"completion_mask {tuple(completion_mask.shape)} marks a completion in every row "
                f"of input_ids {tuple(input_ids.shape)}: here the shapes differ, or a row has none"
            )
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = torch.where(completion_mask.bool(), positions, -1).argmax(-1)  # (B,)
        states = self.model(input_ids)  # (B, T, D)
        return self.score(states[torch.arange(len(last), device=last.device), last]).squeeze(-1)

    def values(self, input_ids: Tensor) -> Tensor:
        """As a critic: what is still to come before each token but the first, (B, T-1) from (B, T)
        ids.
        """
        return self.score(self.model(input_ids)).squeeze(-1)[:, :-1]


class ActorCritic(nn.Module):
    """A policy and the critic that is trained beside it; both start from one language model."""

    def __init__(self, policy: Llama) -> None:
        super().__init__()
        self.policy, self.critic = policy, RewardModel(policy)


def policy_of(model: nn.Module) -> Llama:
    """The language model itself, or the one beside its critic."""
    return model.policy if isinstance(model, ActorCritic) else model


def predict_rewards(
    model: RewardModel,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    batch_size: int = 1024,
    progress: bool = False,
) -> Tensor:
    """r(x, y) of each pair of texts, (N,) float32 on the CPU.

    Raises:
        ValueError: an unknown character, an empty prompt or completion, a text too long for the
            model, lists of different lengths, or a batch size below 1.
    """
    device = next(model.parameters()).device
    return in_batches(model, prompts, completions, device, batch_size=batch_size, progress=progress)
