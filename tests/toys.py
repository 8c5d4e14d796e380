"""Small models whose behaviour the tests know beforehand."""

import math

import torch

from dpo_core.model import Llama, ModelConfig
from dpo_core.tokenizer import VOCABULARY

SMALL = ModelConfig(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=64,
)


def small_model(seed: int = 0, config: ModelConfig = SMALL, scale: float = 10.0) -> Llama:
    """Random weights, large enough for attention and logits to be far from uniform."""
    model = Llama(config).reset_parameters(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
            else:
                draw = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(seed))
                parameter.copy_(0.5 + draw)
    return model.eval()


def memoryless_model(probability: dict[str, float], config: ModelConfig = SMALL) -> Llama:
    """A model that draws every token from one distribution, whatever came before.

    Every embedding is the vector of ones and no layer adds to it, so the head's row sums are the logits.
    """
    model = small_model(config=config)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(1.0)
        model.model.norm.weight.fill_(1.0)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        logits = torch.tensor(
            [math.log(probability.get(character, 1e-30)) for character in VOCABULARY]
        )
        model.lm_head.weight.copy_(logits[:, None].expand(-1, 16) / 16)
    return model


def random_ids(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Ids of the whole vocabulary but the padding."""
    return torch.randint(1, 22, shape, generator=torch.Generator().manual_seed(seed))
