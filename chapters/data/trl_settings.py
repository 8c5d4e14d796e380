"""What has to be set so that TRL 1.16 computes what `dpo_core` computes: chapter 14 prints this table, and the tests of
parity (tests/test_trl_*.py) build TRL's configurations from it.

A setting is listed where its value is not TRL's default, with the reason in both languages. What is not listed stands
at its default. The tests take away each setting of CHANGED in turn and see the numbers part.
"""

from typing import Any

Table = dict[str, tuple[Any, str, str]]  # setting -> value, why, the same in Chinese

CHANGED: dict[str, Table] = {
    "all": {
        "bf16": (
            False,
            "default True: mixed precision keeps three digits of a log-probability, on a CPU too",
            "默认 True：混合精度下对数概率只剩三位有效数字，CPU 上也一样",
        ),
        "lr_scheduler_type": (
            "cosine",
            "default linear; ours is a cosine",
            "默认 linear（线性下降）；我们用余弦退火",
        ),
        "adam_beta2": (
            0.95,
            "default 0.999: the memory of AdamW's second moment; ours is 0.95",
            "默认 0.999，管 AdamW 二阶矩记多久；我们是 0.95",
        ),
        "per_device_train_batch_size": (
            16,
            "default 8: the batch of the comparison",
            "默认 8；对照用的就是这么大的批次",
        ),
    },
    "shuffled": {  # DPO, SFT, reward: GRPO has a sampler of its own
        "train_sampling_strategy": (
            "sequential",
            "default random: the batches of both sides in one order",
            "默认 random；两边要按同一个顺序取批次",
        ),
    },
    "dpo": {
        "beta": (0.25, "default 0.1; the book's is 0.25", "默认 0.1；本书用 0.25"),
        "learning_rate": (
            5e-4,
            "default 1e-6, made for models ten thousand times as large",
            "默认 1e-6，是给大上万倍的模型定的",
        ),
    },
    "sft": {
        "learning_rate": (
            5e-4,
            "default 2e-5, made for models ten thousand times as large",
            "默认 2e-5，是给大上万倍的模型定的",
        ),
    },
    "reward": {},  # its learning rate stays at 1e-4
    "grpo": {
        "learning_rate": (
            5e-4,
            "default 1e-6, made for models ten thousand times as large",
            "默认 1e-6，是给大上万倍的模型定的",
        ),
        "loss_type": (
            "grpo",
            "default dapo, a mean over the batch's tokens; here the mean of each answer's mean, as in the paper",
            "默认 dapo，对整个批次的词元求平均；这里照论文，先对每个回答求平均",
        ),
        "beta": (
            0.25,
            "default 0: no leash, and no reference model is loaded",
            "默认 0：没有 KL 惩罚，参考模型也不加载",
        ),
        "num_generations": (4, "default 8: answers to a prompt", "默认 8，指每个提示的回答数"),
        "max_completion_length": (
            32,
            "default 512; the model has 128 positions in all",
            "默认 512；这个模型总共只有 128 个位置",
        ),
        "shuffle_dataset": (
            False,
            "default True: prompts in the order of the file",
            "默认 True；这里按文件里的顺序取提示",
        ),
    },
}

HOUSEKEEPING: Table = {
    "use_cpu": (True, "the comparison is made on the CPU", "对照在 CPU 上做"),
    "activation_checkpointing": (
        False,
        "default True (its older name is gradient_checkpointing): saves memory for time, same numbers",
        "默认 True（旧名 gradient_checkpointing）：拿时间换内存，数值不变",
    ),
    "logging_steps": (1, "default 10: a line for every step", "默认 10；每一步都要一行"),
    "save_strategy": ("no", "default steps, every 500", "默认 steps，每 500 步存一次"),
    "disable_tqdm": (True, "default False: a bar", "默认 False，会画进度条"),
}

OURS: Table = {
    "optimizer": (
        "adamw",
        "the command's default is Muon, which TRL has not",
        "命令行默认 Muon，TRL 没有",
    ),
    "warmup": (
        0,
        "default 20: ours begins at a share 1/20 of the peak, transformers' at 0, a step that does nothing",
        "默认 20：我们的预热从峰值的 1/20 起步，transformers 从 0 起步，头一步等于没走",
    ),
    "max_grad_norm": (1.0, "default: no clipping; TRL's default is 1", "默认不裁剪；TRL 默认 1"),
}


def settings_of(trainer: str) -> Table:
    """The rows of CHANGED that belong to a trainer: dpo, sft, reward or grpo.

    Raises:
        KeyError: another name.
    """
    shuffled = {} if trainer == "grpo" else CHANGED["shuffled"]
    return {**CHANGED["all"], **shuffled, **CHANGED[trainer]}


def trl_arguments(trainer: str, output_dir: str, **more: Any) -> dict[str, Any]:
    """The arguments of DPOConfig, SFTConfig, RewardConfig or GRPOConfig for a comparison.

    Args:
        more: what a run changes besides; it wins over the table.
    """
    rows = {**HOUSEKEEPING, **settings_of(trainer)}
    return {"output_dir": output_dir, **{name: row[0] for name, row in rows.items()}, **more}
