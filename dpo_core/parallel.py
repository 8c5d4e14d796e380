"""Several processes train one model (chapter 14), on one machine or on several.

    torchrun --nproc-per-node 2 -m dpo_core train-dpo                    each holds the whole model
    torchrun --nproc-per-node 2 -m dpo_core train-dpo --sharding fsdp    each holds a part of it

Every process, a *rank*, knows the whole batch of a step, for that is a function of the step alone;
it takes its share of the rows and learns from them. Gradients, sums and counts are added over the
ranks, never averaged, and the loop divides once, by the count of all. So two processes, four, and
one that cuts its batch into pieces compute one number: DDP and FSDP2 average on their own, and are
told not to. A rank that has no row walks through the model with another's and counts nothing.

What must be on every machine: this package, and the folder of the model that a run starts from. The
output, the run's state and the pairs are read and written by the first process, which sends the
others what they need. The model and the losses know nothing of all this.
"""

import copy
import json
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any, TextIO, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dpo_core.checkpoint import digest
from dpo_core.compilation import backbones
from dpo_core.progress import say

T = TypeVar("T")
Batch = dict[str, Tensor]
Totals = dict[str, list[float]]  # name -> [sum, count]
LossStep = Callable[[nn.Module, Batch], Any]

SHARDINGS = ("ddp", "fsdp")
GIVEN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
JOINING = timedelta(seconds=600)  # until all processes have come
TIMEOUT = timedelta(seconds=300)  # until a message must have come; of a dead process it is known
PATIENCE = 1.0  # seconds in which the first process may say what another one could say as well
GRACE = 3.0  # seconds to end in after a signal; a process that waits for another may not wake up

_store: dist.Store | None = None  # what all processes of the run can read and write
_calls = 0  # of `from_first`; each has its own name in the store
_kept = ""  # where the run's state is, for whoever must say so


class Lost(Exception):
    """The run has lost one of its processes; this one cannot go on alone."""


# ---------------------------------------------------------------- who is there


def launched() -> bool:
    """Whether torchrun, or what sets its variables, started this process."""
    return all(name in os.environ for name in GIVEN)


def joined() -> bool:
    """Whether `start` has made this process one of several."""
    return _store is not None and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if joined() else 0


def ranks() -> int:
    """How many processes the run has."""
    return dist.get_world_size() if joined() else 1


def start() -> None:
    """Join the other processes that torchrun has started.

    Raises:
        ValueError: torchrun's variables are no numbers, the others did not come or have another
            version of torch, or this torch has no gloo.
    """
    global _store, _calls
    numbers = {name: os.environ.get(name, "") for name in GIVEN if name != "MASTER_ADDR"}
    for name, text in numbers.items():
        if not text.isdecimal():
            raise ValueError(f"{name} is {text!r:.40}; accepted is the number that torchrun sets")
    if not dist.is_available():
        raise ValueError("this torch knows no other processes (torch.distributed); start one")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(numbers["LOCAL_RANK"]) % torch.cuda.device_count())
    try:
        store, number, count = next(dist.rendezvous("env://", timeout=JOINING))
        _store, _calls = dist.PrefixStore("dpo_core", store), 0
        if not dist.is_gloo_available():
            raise ValueError("this torch has no gloo, over which processes talk; start one")
        dist.init_process_group("gloo", store=store, rank=number, world_size=count, timeout=TIMEOUT)
    except (RuntimeError, OSError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ValueError(
            f"the processes did not find each other at {where}: {_line(error)}"
        ) from None
    versions = everyone(str(torch.__version__))
    for other, version in enumerate(versions):
        if version != versions[0]:
            raise ValueError(f"process {other} has torch {version}, process 0 has {versions[0]}")


def leave() -> None:
    """The end of what `start` began."""
    global _store
    if joined():
        _store = None
        dist.destroy_process_group()


@contextmanager
def _noticing() -> Iterator[None]:
    """A message that did not come is a process that is gone.

    Raises:
        Lost: in place of torch's own errors, which have many forms.
    """
    try:
        yield
    except RuntimeError as error:
        words = ("gloo", "nccl", "onnection", "roken pipe", "timed out", "Timed out", "recvValue")
        if isinstance(error, dist.DistError) or any(word in str(error) for word in words):
            raise Lost("the run has lost one of its processes") from error
        raise


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


# ---------------------------------------------------------------- what they tell each other


def everyone(content: Any) -> list[Any]:
    """What each process gave, in the order of their numbers; anything that JSON holds.

    Raises:
        Lost: a process is gone.
    """
    if not joined():
        return [content]
    text = torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)
    with _noticing():
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(ranks())]
        dist.all_gather(sizes, torch.tensor([len(text)]))
        longest = max(map(int, sizes))
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in sizes]
        dist.all_gather(texts, torch.cat((text, text.new_zeros(longest - len(text)))))
    return [json.loads(bytes(t[: int(n)].numpy())) for t, n in zip(texts, sizes, strict=True)]


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, in all of them; anything that JSON holds.

    The others wait for as long as it takes. An exception of the first ends them too.

    Raises:
        Lost: the first process has ended.
    """
    global _calls
    if not joined():
        return make()
    _calls += 1
    key = f"from_first/{_calls}"
    if rank() == 0:
        try:
            content = make()
        except BaseException:
            with suppress(RuntimeError):
                _store.set(key, "ended")
            raise
        with _noticing():
            _store.set(key, "made")
        text = json.dumps(content).encode()
    else:
        with _noticing():
            while not _store.check([key]):  # in short waits: a signal is answered between them
                time.sleep(0.01)
            if _store.get(key) != b"made":
                raise Lost("the first process of the run has ended")
    with _noticing():
        size = torch.tensor([len(text) if rank() == 0 else 0])
        dist.broadcast(size, 0)
        sent = torch.zeros(int(size), dtype=torch.uint8)
        if rank() == 0:
            sent = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        dist.broadcast(sent, 0)
    return content if rank() == 0 else json.loads(bytes(sent.numpy()))


def same_everywhere(what: str, content: dict[str, Any]) -> None:
    """Hold what each process has against what the first has.

    Raises:
        ValueError: they differ; the message names the first name whose values do.
        Lost: a process is gone.
    """
    told = everyone(content)
    for number, other in enumerate(told):
        for name in sorted(other.keys() | told[0].keys()):
            if other.get(name) != told[0].get(name):
                theirs, ours = other.get(name), told[0].get(name)
                raise ValueError(
                    f"{what} must be the same in all processes: {name} is {theirs!r:.80} in "
                    f"process {number}, {ours!r:.80} in process 0"
                )


# ---------------------------------------------------------------- tensors of which each has a part


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process holds: all of them, unless it is sharded."""
    return tensor.to_local() if _sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All rows of a tensor; of a sharded one, gathered from all processes."""
    with _noticing():
        return tensor.full_tensor() if _sharded(tensor) else tensor


def sharded_as(full: Tensor, like: Tensor) -> Tensor:
    """A tensor of which each process holds the rows that it holds of `like`."""
    if not _sharded(like):
        return full
    from torch.distributed.tensor import DTensor

    rows = own_rows(full[None], like)[0].to(like.device).contiguous()
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(rows, mesh, placements, shape=like.shape, stride=like.stride())


def own_rows(full: Tensor, like: Tensor) -> Tensor:
    """(N, r, ...) of (N, R, ...): the rows that this process holds of a tensor like `like`."""
    if not _sharded(like):
        return full
    parts = full.chunk(like.device_mesh.size(), dim=1)  # as fully_shard cuts
    mine = like.device_mesh.get_local_rank()
    return parts[mine] if mine < len(parts) else full[:, :0]


def all_rows(own: Tensor, like: Tensor) -> Tensor:
    """(N, R, ...) of (N, r, ...): the opposite of `own_rows`, gathered from all processes."""
    if not _sharded(like):
        return own
    count, total = like.device_mesh.size(), like.shape[0]
    most = -(-total // count)
    padding = own.new_zeros(len(own), most - own.shape[1], *own.shape[2:])
    sent = torch.cat((own, padding), dim=1)
    with _noticing():
        parts = [torch.empty_like(sent) for _ in range(count)]
        dist.all_gather(parts, sent, group=like.device_mesh.get_group())
    return torch.cat(parts, dim=1)[:, :total]


def _sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


# ---------------------------------------------------------------- one training, by one or several


class Alone:
    """What the loop asks of those who train, answered by one process.

    Attributes:
        model: what is trained; its parameters are what the optimisers and the run's state see.
    """

    ranks, first = 1, True

    def __init__(self, model: nn.Module, loss_step: LossStep | None = None) -> None:
        self.model, self.loss_step = model, loss_step
        self.device = next(model.parameters()).device

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives the first of those who train; see the function of that name."""
        return make()

    def send(self, tensor: Tensor | None, like: Tensor) -> Tensor | None:
        """The first one's tensor, for all; of the shape and type of `like`."""
        return tensor

    def learn(self, batch: Batch, pieces: int) -> Totals:
        """Gradients of the batch's summed loss, and its named sums and counts.

        Args:
            batch: on any device.
            pieces: what it is cut into, so that less has to be in memory at once.
        """
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        totals: Totals = {}
        for piece in cut(batch, pieces):
            if _rows(piece):
                add(totals, self._backward(self.loss_step, piece))
        return totals

    def _backward(self, step: Callable[..., Any], piece: Batch, weight: float = 1.0) -> Totals:
        result = step(self.model, piece)
        loss = result["loss"][0]
        (loss if weight == 1 else loss * weight).backward()
        return {name: [float(t.detach()), float(count)] for name, (t, count) in result.items()}

    def gradients(self) -> list[Tensor]:
        """The gradients, or what this process holds of them."""
        return [local(p.grad) for p in self.model.parameters() if p.grad is not None]

    def norm(self, gradients: list[Tensor]) -> float:
        """The length of the whole gradient."""
        return float(torch.nn.utils.get_total_norm(gradients))

    def bad_weights(self) -> list[str]:
        """The names of parameters that are NaN or infinite somewhere."""
        return [
            name
            for name, parameter in self.model.named_parameters()
            if not torch.isfinite(local(parameter)).all()
        ]

    def gather(self) -> None:
        """See that the model that the caller holds has the weights of the one that is trained."""

    def finish(self) -> None:
        """`gather`, at the end of the run."""


class Team(Alone):
    """The same, answered by all processes together.

    Each calls every method at the same time as the others.

    Args:
        sharding: "ddp", where each process holds the whole model, or "fsdp", where it holds a part
            of each parameter, gradient and moment, and gets the rest layer by layer when needed.
        drawing: whether the batches are made with the model in training (rollouts): the caller's
            model then stays where it is, and `gather` brings it up to date. With "fsdp" it goes to
            the CPU otherwise, where it costs no memory of a GPU.

    Raises:
        ValueError: an unknown sharding, parameters of several types with "fsdp", or processes that
            start from other weights or on other kinds of devices.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_step: LossStep,
        sharding: str,
        drawing: bool = False,
    ) -> None:
        if sharding not in SHARDINGS:
            raise ValueError(
                f"unknown sharding {sharding!r:.60}; accepted are {', '.join(SHARDINGS)}"
            )
        kinds = {str(p.dtype).removeprefix("torch."): n for n, p in model.named_parameters()}
        if sharding == "fsdp" and len(kinds) > 1:
            found = ", ".join(f"{kind} ({name})" for kind, name in sorted(kinds.items()))
            raise ValueError(f"fsdp needs parameters of one type; found are {found}; take ddp")
        super().__init__(model, loss_step)
        self.rank, self.ranks, self.first = rank(), ranks(), rank() == 0
        self.sharding, self.drawing = sharding, drawing
        weights = digest({n: p.detach().cpu() for n, p in model.named_parameters()})
        start = {"device": self.device.type, "weights": weights[:16]}
        same_everywhere("the start of a run", start)
        self.outside = model  # the caller's
        group = _group(self.device, sharding)
        with _noticing():
            if sharding == "ddp":
                self.together = _replicated(_Step(model, loss_step), group)
            else:
                if not drawing:
                    model.to("cpu")
                self.model = copy.deepcopy(model)
                self.together = _sharded_over(_Step(self.model, loss_step), group, self.device)

    def from_first(self, make: Callable[[], T]) -> T:
        return from_first(make)

    def send(self, tensor: Tensor | None, like: Tensor) -> Tensor:
        sent = torch.empty(like.shape, dtype=like.dtype)
        if self.first:
            sent.copy_(tensor)
        with _noticing():
            dist.broadcast(sent, 0)
        return sent

    def learn(self, batch: Batch, pieces: int) -> Totals:
        """As alone: each process learns from its share of the rows.

        Raises:
            ValueError: a share has nothing to learn from, or the batch is not the same in all
                processes.
            Lost: a process is gone.
        """
        shares = [list(cut(share, pieces)) for share in cut(batch, self.ranks)]
        spare = self._spare(batch, shares)
        totals: Totals = {}
        with _noticing():
            for number, piece in enumerate(shares[self.rank]):
                rows = _rows(piece)
                piece = piece if rows else spare  # all must walk through the layers together
                piece = {name: tensor.to(self.device) for name, tensor in piece.items()}
                with self._quiet(number + 1 < pieces):
                    found = self._backward(
                        lambda _, part: self.together(part), piece, float(rows > 0)
                    )
                add(totals, {n: pair if rows else [0.0, 0.0] for n, pair in found.items()})
        told = everyone({"totals": totals, "batch": self._checksum(batch)})
        if any(other["batch"] != told[0]["batch"] for other in told):
            raise ValueError(
                "the batch of a step is not the same in all processes; "
                "it must depend on the step alone"
            )
        totals = {}
        for other in told:  # in one order, so that all get the same bits
            add(totals, other["totals"])
        return {name: pair for name, pair in totals.items() if pair[1] or name == "loss"}

    def _spare(self, batch: Batch, shares: list[list[Batch]]) -> Batch:
        """A row for whoever has none."""
        masks = [name for name in batch if name.endswith("mask")]
        for number, share in enumerate(shares):
            for piece in share:
                if masks and _rows(piece) and not any(piece[name].any() for name in masks):
                    raise ValueError(
                        f"the rows of process {number} have nothing to learn from; with several "
                        "processes each share of a batch needs a marked token"
                    )
        row = 0
        for name in masks[:1]:
            row = int(batch[name].flatten(1).any(1).to(torch.uint8).argmax())
        return {name: tensor[row : row + 1] for name, tensor in batch.items()}

    def _quiet(self, more: bool) -> Any:
        """With "ddp" gradients travel once a step; with "fsdp" after each piece, lest every process
        keep all of them.
        """
        return self.together.no_sync() if more and self.sharding == "ddp" else nullcontext()

    def _checksum(self, batch: Batch) -> int:
        """Of the whole batch, without numbers that processes may compute in other last bits."""
        found = 0
        for name in sorted(batch):
            tensor = batch[name].detach()
            if tensor.is_floating_point() and self.drawing:
                continue
            content = tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            found = zlib.crc32(content, zlib.crc32(name.encode(), found))
        return found

    def norm(self, gradients: list[Tensor]) -> float:
        """The length of the whole gradient, whose parts lie with several processes."""
        if self.sharding == "ddp":
            return super().norm(gradients)
        own = float(torch.stack(torch._foreach_norm(gradients)).double().square().sum())
        return math.sqrt(sum(everyone(own)))

    def bad_weights(self) -> list[str]:
        """The names of parameters that are NaN or infinite somewhere, in any process."""
        return sorted({name for names in everyone(super().bad_weights()) for name in names})

    @torch.no_grad()
    def gather(self) -> None:
        """See that the model that the caller holds has the weights of the one that is trained."""
        if self.sharding == "ddp":
            return
        trained = dict(self.model.named_parameters())
        for name, parameter in self.outside.named_parameters():
            parameter.copy_(whole(trained[name]))

    def finish(self) -> None:
        """`gather`; the caller's model is where it was."""
        self.gather()
        self.outside.to(self.device)


class _Step(nn.Module):
    """A loss step as a module whose call DDP and FSDP2 can watch: they see what enters and leaves
    it, so the model inside needs no wrapper and may be called in parts.
    """

    def __init__(self, model: nn.Module, loss_step: LossStep) -> None:
        super().__init__()
        self.model, self.loss_step = model, loss_step

    def forward(self, batch: Batch) -> Any:
        return self.loss_step(self.model, batch)


def _replicated(step: _Step, group: dist.ProcessGroup) -> DistributedDataParallel:
    """A copy of the model in each process, whose gradients are added up."""
    with warnings.catch_warnings():  # the newer name of the last argument is not in every torch
        warnings.simplefilter("ignore", FutureWarning)
        ddp = DistributedDataParallel(step, process_group=group, broadcast_buffers=False)

    def add_up(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        # without this DDP divides by the number of processes: a mean of sums
        work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    ddp.register_comm_hook(None, add_up)
    return ddp


def _sharded_over(step: _Step, group: dist.ProcessGroup, device: torch.device) -> nn.Module:
    """The model in parts: each layer a unit of its own, everything else another."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = DeviceMesh.from_group(group, device.type)
    for backbone in backbones(step.model):
        for layer in backbone.layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(step, mesh=mesh)
    for module in step.modules():
        if isinstance(module, FSDPModule):  # add up, divide by nothing
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return step


def _group(device: torch.device, sharding: str) -> dist.ProcessGroup:
    """Over what gradients and weights travel: NCCL where every process has a GPU, else gloo.

    Raises:
        ValueError: "fsdp" on GPUs without NCCL: torch 2.11 ends with a fault of memory there.
    """
    if device.type == "cpu":
        return dist.group.WORLD
    own = str(torch.cuda.get_device_properties(device).uuid) if dist.is_nccl_available() else ""
    cards = everyone(own)
    if "" in cards or len(set(cards)) < len(cards):
        why = "this torch has no NCCL" if "" in cards else "processes share a GPU"
        if sharding == "fsdp":
            raise ValueError(f"{why}, and fsdp needs NCCL; accepted is ddp, or a GPU for each")
        say(f"{why}: gradients travel over gloo, which is slow", sys.stderr)
        return dist.group.WORLD
    with _noticing():
        return dist.new_group(backend="nccl", timeout=TIMEOUT)


def cut(batch: Batch, count: int) -> Iterator[Batch]:
    """The rows of a batch in `count` pieces, the first ones longer by one where they do not divide;
    the last ones are empty where there are fewer rows.
    """
    split = {name: tensor.tensor_split(count) for name, tensor in batch.items()}
    for index in range(count):
        yield {name: parts[index] for name, parts in split.items()}


def add(totals: Totals, new: dict[str, Any]) -> None:
    """Add named (sum, count) pairs to what is there."""
    for name, (total, count) in new.items():
        old_total, old_count = totals.get(name, (0.0, 0.0))
        totals[name] = [old_total + total, old_count + count]


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))


# ---------------------------------------------------------------- one voice, one end


def kept(state: Path) -> None:
    """Remember where the state of the run is, for the line that is printed if it is lost."""
    global _kept
    _kept = str(state)


def as_one(run: Callable[[], int], alone: str = "") -> int:
    """Run a command as one process of several; returns the exit code: 1 if another one was lost.

    The first process says what is to be said, another one only what the first cannot: an error of
    its own, or that the run has lost a process. After a fault the process ends at once, whatever
    torch waits for.

    Args:
        alone: the name of a command that is the work of one process; it is refused.
    """
    first = os.environ["RANK"] == "0"
    streams = sys.stdout, sys.stderr
    sys.stderr = held = _Held(streams[1], shown=first)
    if not first:
        sys.stdout = StringIO()
    _answer_signals(streams[1])
    patience = 0.0 if first else PATIENCE
    try:
        start()
        if alone and ranks() > 1:
            raise ValueError(f"{alone} is the work of one process; start it without torchrun")
        code, text = run(), ""
    except SystemExit as end:  # of the parser
        code, text = end.code if isinstance(end.code, int) else 2, ""
    except ValueError as error:
        code, text = 2, f"dpo-core: error: {error}"
    except Lost:  # whoever knows why may say so first
        code, text, patience = 1, _loss(), 2 * PATIENCE
    except KeyboardInterrupt:
        code, text = 130, "dpo-core: interrupted"
    except BaseException:
        code, text = 1, traceback.format_exc()
    sys.stdout, sys.stderr = streams
    if code == 0:
        leave()
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):  # torchrun ends those that are left
        signal.signal(number, signal.SIG_IGN)
    text = (held.fault or text).strip()
    if _may_speak(patience) and text:
        say(text if first else f"{text} [process {rank()}]", sys.stderr)
    for stream in streams:
        with suppress(OSError):
            stream.flush()
    os._exit(code)


class _Held:
    """Standard error, of which the line that ends a command is kept back: who prints it is settled
    between the processes. Of all but the first the rest is not shown.
    """

    def __init__(self, stream: TextIO, shown: bool) -> None:
        self.stream, self.shown, self.fault = stream, shown, ""

    def write(self, text: str) -> int:
        if text.startswith("dpo-core "):
            self.fault = text
        elif self.shown and not (self.fault and text == "\n"):
            self.stream.write(text)
        return len(text)

    def isatty(self) -> bool:
        return self.shown and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _loss() -> str:
    """What is said when a process is gone."""
    if os.path.exists(_kept):
        more = f"--resume continues {os.path.dirname(_kept)}"
    elif rank() == 0:
        more = "there is nothing to resume"
    else:
        more = "--resume continues what process 0 has saved"
    return f"dpo-core: error: the run has lost one of its processes, or was told to end; {more}"


def _may_speak(patience: float) -> bool:
    """Whether this process is the one that speaks: nobody has, nor does for so many seconds."""
    end = time.monotonic() + patience
    try:
        while _store is not None and time.monotonic() < end:
            if _store.check(["said"]):
                return False
            time.sleep(0.05)
        return patience == 0.0 if _store is None else _store.add("said", 1) == 1
    except RuntimeError:  # whoever kept the store is gone, too
        return True


def _answer_signals(stderr: TextIO) -> None:
    """Ctrl-C and torchrun's own signal are answered once, also where torch waits for a message."""

    def answer(number: int, frame: Any) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Lost("the run was told to end")

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, answer)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        number = 0
        while number not in (signal.SIGINT, signal.SIGTERM):
            number = reader.recv(1)[0]
        time.sleep(GRACE)
        if _may_speak(0.0):
            say(_loss(), stderr)
        os._exit(130 if number == signal.SIGINT else 1)

    watch.sockets = reader, writer  # kept open for as long as the thread runs
    threading.Thread(target=watch, daemon=True).start()
