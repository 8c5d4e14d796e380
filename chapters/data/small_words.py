"""A model folder in the form of a real one, made in a second: a random Llama whose tokens are pieces of words (chapter 14).

Grouped heads of keys, one matrix at both ends, a tokenizer that joins bytes to pieces, a chat template. It has learnt
nothing: it is for code that must not care how large a model is.
"""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from dpo_core.checkpoint import save_model
from dpo_core.model import Llama, ModelConfig
from dpo_core.storage import json_bytes
from dpo_core.tokenizer import TextTokenizer

SAID = (
    "Tea or coffee? Tea, please. The tea is warm, and so is the coffee.",
    "Is the sky blue? Yes, the sky is blue. At night the sky is black.",
    "Name a color that you like. I like red, because the evening sky is red.",
)
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_words(folder: str | Path, seed: int = 0) -> Path:
    """Write the model and its tokenizer; the folder."""
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learn = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    pieces.train_from_iterator(SAID, learn)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    named = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL))
    config = {"chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast", **named}
    parts = folder.parent / f"{folder.name}.tokenizer"  # read from here, written beside the weights
    parts.mkdir(exist_ok=True)
    pieces.save(str(parts / "tokenizer.json"))
    (parts / "tokenizer_config.json").write_bytes(json_bytes(config))
    sizes = ModelConfig(
        vocab_size=pieces.get_vocab_size(),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    save_model(Llama(sizes).reset_parameters(seed), folder, tokenizer=TextTokenizer(parts))
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()
    return folder
