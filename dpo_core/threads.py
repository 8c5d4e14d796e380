"""How many threads torch computes with.

A model of this size is made of products so small that threads spend much of their time waiting for
each other, and they wait spinning. On idle cores that is harmless, and a second thread pays; beside
another busy process they spin against it, and two threads take several times as long as one.
"""

import os

import psutil
import torch

MOST = 4  # more do not pay for matrices of width 64
MANY = 256  # no machine is asked for more
asked = 0  # the number that somebody asked for in this process


def idle_cores(seconds: float = 0.2) -> int:
    """How many of this process's cores nobody uses, watched for a moment while it sleeps.

    A core that is half in use counts as used: a thread too many costs more than one too few.
    """
    busy = dict(enumerate(psutil.cpu_percent(interval=seconds, percpu=True)))  # core -> per cent
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else busy.keys()
    return int(sum(1 - busy.get(core, 0.0) / 100 for core in ours) + 0.2)


def use_threads(count: int = 0) -> int:
    """Set how many threads torch computes with from now on, and return the number.

    Args:
        count: the number; 0 takes the one that was asked for last, if any was; else the idle cores,
            at least one and at most MOST, unless OMP_NUM_THREADS is set: torch has taken that.

    Raises:
        ValueError: a negative count, or one above 256.
    """
    if not 0 <= count <= MANY:
        raise ValueError(f"threads is {count}; accepted are whole numbers from 0 to {MANY}")
    global asked
    asked = count or asked
    if asked or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(asked or min(MOST, max(1, idle_cores())))
    return torch.get_num_threads()
