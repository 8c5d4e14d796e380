"""Real processes that train together over gloo, forked from the one that tests: no import is repeated.

`together(2, work)` runs `work()` in two processes that have joined and returns what each gave, as JSON holds it.
"""

import json
import os
import socket
import time
import traceback
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dpo_core import parallel

SECONDS = 300  # on a busy machine; a pair of processes that waits longer waits for ever


def together(count, work):
    """What `work()` returns in each of `count` processes, None where one is gone; an exception is an AssertionError."""
    with socket.socket() as free, TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        results = [Path(folder) / str(rank) for rank in range(count)]
        children = [_fork(rank, count, port, work, results[rank]) for rank in range(count)]
        end = time.monotonic() + SECONDS
        waiting = set(children)
        while waiting and time.monotonic() < end:
            waiting -= {child for child in waiting if os.waitpid(child, os.WNOHANG)[0]}
            time.sleep(0.01)
        for child in waiting:
            os.kill(child, 9)
            os.waitpid(child, 0)
        said = [json.loads(path.read_text()) if path.exists() else {} for path in results]
    faults = [f"process {rank}:\n{one['fault']}" for rank, one in enumerate(said) if "fault" in one]
    assert not faults, "\n".join(faults)
    assert not waiting, f"{len(waiting)} of {count} processes did not end"
    return [one.get("result") for one in said]


def _fork(rank, count, port, work, result):
    child = os.fork()
    if child:
        return child
    try:
        os.environ.update(
            RANK=str(rank),
            WORLD_SIZE=str(count),
            LOCAL_RANK=str(rank),
            LOCAL_WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        torch.set_num_threads(1)
        parallel.start()
        said = {"result": work()}
        with suppress(parallel.Lost):  # nobody leaves while another still asks
            parallel.from_first(lambda: None)
    except BaseException:
        said = {"fault": traceback.format_exc()}
    try:
        result.with_suffix(".new").write_text(json.dumps(said))
        result.with_suffix(".new").replace(result)
    finally:
        os._exit(0)
