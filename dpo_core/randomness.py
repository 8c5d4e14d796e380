"""Random numbers of torch, by seed; those of numpy come from `task.stream`."""

import torch


def torch_generator(seed: int) -> torch.Generator:
    """A generator on the CPU.

    Raises:
        ValueError: a seed outside 0 … 2**32 - 1: the generator drops the bits above, so that two
            seeds would give the same numbers.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; accepted are whole numbers from 0 to 4294967295")
    return torch.Generator().manual_seed(seed)
