"""Train the base model (chapter 3).

dpo-core train-gen        writes ./gen.model
"""

from dataclasses import dataclass

from dpo_core.commands.options import (
    Options,
    compile_layers,
    count,
    device,
    optimizer,
    option,
    pick_device,
    resume,
    seed,
    sharding,
    threads,
)
from dpo_core.commands.run import run_training, training_place
from dpo_core.model import Llama, ModelConfig
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import sft_step
from dpo_core.task import TASKS, make_task, stream
from dpo_core.training import Batch


@dataclass(frozen=True)
class TrainGen(Options):
    """Train a base model from random weights on the answers of a population of authors."""

    output: str = option("gen.model", "model folder to write")
    task: str = option("book", "book or classic", choices=tuple(TASKS))
    steps: int = count(9000, "updates")
    batch_size: int = count(128, "texts per update", high=16_384)
    learning_rate: float = option(0.01, "peak of the schedule", above=0, high=100)
    warmup: int = count(100, "updates until the peak", low=0)
    optimizer: str = optimizer()
    loss_on: str = option(
        "completion",
        "completion, or all tokens (as Simple_RLHF_DPO does)",
        choices=("completion", "all"),
    )
    seed: int = seed("of the weights and of the data")
    device: str = device()
    threads: int = threads()
    compile: str = compile_layers()
    sharding: str = sharding()
    log_every: int = count(100, "updates per line of the metrics, OUTPUT/metrics.jsonl")
    save_every: int = count(1000, "updates between run states, OUTPUT.partial; 0 keeps none", low=0)
    resume: bool = resume()


def run(options: TrainGen) -> None:
    """Run `dpo-core train-gen`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    task, on = make_task(options.task), pick_device(options.device)

    def batch_at(step: int) -> Batch:
        prompts, completions = task.demonstrations(
            options.batch_size, stream("sft", options.seed, step)
        )
        ids, mask = TOKENIZER.collate(prompts, completions)
        if options.loss_on == "all":
            mask = ids != TOKENIZER.pad_id
            mask[:, 0] = False  # nothing predicts the first token
        return {"input_ids": ids, "completion_mask": mask}

    config = ModelConfig()
    with training_place(options, config) as place:
        model = Llama(config).reset_parameters(options.seed).to(on)
        run_training(options, model, batch_at, sft_step, recipe={}, place=place)
