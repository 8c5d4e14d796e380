"""Train the base model (chapter 3).

dpo-core train-gen        writes ./gen.model
"""

from dataclasses import dataclass

from dpo_core.commands.options import option, pick_device
from dpo_core.commands.run import check_run, run_training
from dpo_core.model import Llama, ModelConfig
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import sft_step
from dpo_core.task import make_task, stream
from dpo_core.training import Batch


@dataclass(frozen=True)
class TrainGen:
    """Train a base model from random weights on the answers of a population of authors."""

    output: str = option("gen.model", "model folder to write")
    task: str = option("book", "book or classic")
    steps: int = option(9000, "updates")
    batch_size: int = option(128, "texts per update")
    learning_rate: float = option(0.01, "peak of the schedule")
    warmup: int = option(100, "updates until the peak")
    optimizer: str = option("muon", "muon or adamw")
    loss_on: str = option("completion", "completion, or all tokens (as Simple_RLHF_DPO does)")
    seed: int = option(0, "of the weights and of the data")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")
    log_every: int = option(100, "updates per line of the metrics file, OUTPUT.metrics.jsonl")
    save_every: int = option(1000, "updates between run states, OUTPUT.partial; 0 keeps none")
    resume: bool = option(False, "continue the run whose state is in OUTPUT.partial")


def run(options: TrainGen) -> None:
    """Run `dpo-core train-gen`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    task, device = make_task(options.task), pick_device(options.device)
    if options.loss_on not in ("completion", "all"):
        raise ValueError(f"unknown loss_on {options.loss_on!r}; accepted are completion, all")
    check_run(options)

    def batch_at(step: int) -> Batch:
        prompts, completions = task.demonstrations(
            options.batch_size, stream("sft", options.seed, step)
        )
        ids, mask = TOKENIZER.collate(prompts, completions)
        if options.loss_on == "all":
            mask = ids != TOKENIZER.pad_id
            mask[:, 0] = False  # nothing predicts the first token
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(options.seed).to(device)
    run_training(options, model, batch_at, sft_step, recipe={})
