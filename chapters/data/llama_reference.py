"""Writes llama_reference.json: what Hugging Face's LlamaForCausalLM says about a few rows, for chapter 2.

    python chapters/data/llama_reference.py

needs `transformers` (the version goes into the file) and takes some seconds on a CPU. The chapter compares our
model with these numbers, so that its readers need no transformers; tests/ makes the comparison live.
"""

import json
from pathlib import Path

import torch

from dpo_core import CharTokenizer, Llama, ModelConfig

PLACE = Path(__file__).with_suffix(".json")
COMMAND = "python chapters/data/llama_reference.py"
TEXTS = ["S54=27+27E", "S-7=2-9E"]


def loud_model(seed: int = 0) -> Llama:
    """A model whose every part matters: matrices ten times larger than at the start, uneven norm weights.

    With the small weights of an untrained model the logits are near zero, and a wrong angle or a missing
    scale would hide in the sixth digit.
    """
    model = Llama(ModelConfig()).reset_parameters(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.linspace(0.5, 1.5, len(parameter)))
            else:
                parameter.mul_(10)
    return model.eval()


def main() -> None:
    import transformers

    tokenizer, model = CharTokenizer(), loud_model()
    config = model.config
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_attention_heads,
            max_position_embeddings=config.max_position_embeddings,
            rms_norm_eps=config.rms_norm_eps,
            rope_theta=config.rope_theta,
            tie_word_embeddings=False,
            attention_bias=False,
            mlp_bias=False,
            hidden_act="silu",
            attn_implementation="eager",
        )
    ).eval()
    theirs.load_state_dict(model.state_dict())
    rows = []
    for text in TEXTS:
        with torch.no_grad():
            logits = theirs(input_ids=torch.tensor([tokenizer.encode(text)])).logits[0]  # (T, V)
        rows.append(
            {
                "text": text,
                "logits": [[round(value, 6) for value in row] for row in logits.tolist()],
            }
        )
    record = {
        "command": COMMAND,
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
        "seed": 0,
        "model": "loud_model() of llama_reference.py as transformers.LlamaForCausalLM, float32, eager attention",
        "rows": rows,
    }
    PLACE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
