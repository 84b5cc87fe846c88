"""One optimisation step: whole, or in pieces where memory does not hold the batch; refused where numbers run away."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch

from aream.engine.device_images import DeviceImages
from aream.engine.pending import PendingChecks
from aream.engine.randomness import random_state, restore_random_state
from aream.errors import DivergedError, OutOfMemory

OutOfMemoryPolicy = Literal["fail", "accumulate"]
NO_MEMORY = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED", "bad_alloc", "Cannot allocate memory")
LEAST_SCALE = 2.0**-16
"""Loss scale below which no gradient that makes sense overflows in fp16: as far below 1 as a scaler begins above it."""
T = TypeVar("T")
M = TypeVar("M", bound=torch.nn.Module)


class MicroBatches:
    """Number of images of a batch that pass the network at once: all, until memory does not hold them.

    Then the step is done again with half as many, down to one, and what held is kept for the rest of the training.
    Gradients of the pieces add up to the whole batch's, apart from rounding, and apart from what sees other images of
    its batch or draws random numbers for it: batch norm, dropout, drop path. Memory that a step
    can do without is let go first.
    """

    def __init__(self, batch_size: int, policy: OutOfMemoryPolicy, advice: str) -> None:
        """``advice`` says what to change where even one image is too much, or the policy is to fail."""
        self.batch_size, self.policy, self.advice = batch_size, policy, advice
        self.size = batch_size
        self.may_shrink = policy == "accumulate"
        self.spare: DeviceImages | None = None
        """Lets go of its memory first."""

    def row(self) -> dict[str, float]:
        """Return what the training reports of it."""
        return {"train/micro_batch": float(self.size)} if self.policy == "accumulate" else {}

    def run(self, module: Any, gradients: Callable[[int], T], place: str) -> T:
        """The result of ``gradients(size)`` at the largest size that memory holds.

        Args:
            module: the network; its buffers are as before the step when a step is done again.
            gradients: starts from no gradient and leaves those of the whole batch.
            place: the epoch and step, for the message.

        Raises:
            OutOfMemory: memory does not hold it, and the policy allows no smaller piece.
        """
        while True:
            spare = self.spare is not None and self.spare.bytes > 0
            if not spare and (not self.may_shrink or self.size == 1):
                with self.guarded(place):
                    return gradients(self.size)
            generators = random_state()
            buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
            try:
                return gradients(self.size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of `except`: the error holds the frames, and they hold what must be freed.
            if self.spare is None or not self.spare.let_go():
                self.size //= 2
            restore_random_state(generators)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @contextlib.contextmanager
    def guarded(self, place: str) -> Iterator[None]:
        """A failing allocation in the body becomes :class:`OutOfMemory`."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            parts = "" if self.size == self.batch_size else f" in pieces of {self.size}"
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise OutOfMemory(
                f"out of memory in {place}, {self.batch_size} images a batch{parts}: {self.advice} ({reason[:300]})"
            ) from error


def placed(network: M, device: torch.device) -> M:
    """The network on its device; on a GPU weights of convolutions lie channels last, as its kernels read them."""
    if device.type == "cpu":
        return network.to(device)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def advice(section: str, config: Any, side: str) -> str:
    """Return what to change of a ``section`` of the trial where memory does not hold a step; ``side`` is of its
    images."""
    lower = " or ".join(f"{section}.{name} ({getattr(config, name)})" for name in ("batch_size", side))
    fails = config.out_of_memory == "fail"
    return f"lower {lower}" + (f", or set {section}.out_of_memory to accumulate" if fails else "")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an allocation failed, on a GPU, by torch's allocator on a CPU, or anywhere else."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


def resolved_precision(precision: str, device: str) -> str:
    """Return what ``auto`` means on a kind of device."""
    if precision != "auto":
        return precision
    return "bf16" if device == "cuda" else "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The forward pass's arithmetic: fp32 on a CPU unless asked for."""
    precision = resolved_precision(precision, device.type)
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def refuse_loss(
    checks: PendingChecks, losses: Mapping[str, torch.Tensor], total: torch.Tensor, place: str, ids: Sequence[str]
) -> None:
    """
    Raises:
        DivergedError: the total is NaN or infinite, when ``checks`` are asked; names its terms and the images.
    """
    found = {name: value.detach() for name, value in losses.items()}

    def diverged() -> DivergedError:
        terms = ", ".join(f"{name} {value.item():g}" for name, value in found.items())
        return DivergedError(f"loss is not finite in {place} ({terms}); images: {', '.join(ids)}")

    checks.add(torch.isfinite(total.detach()), diverged)


def apply_gradients(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    checks: PendingChecks,
    place: str,
    ids: Sequence[str],
) -> None:
    """Step the optimizer; under fp16 the scaler leaves a step with gradients that overflow out, and scales less.

    Raises:
        DivergedError: a gradient is NaN or infinite though no scaling explains it, when ``checks`` are asked; under
            fp16 after the steps in which the scale has fallen so far. Asked at once, as on a CPU, the weights are as
            before.
    """
    if not scaler.is_enabled():
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        largest = torch.nn.utils.get_total_norm(gradients, norm_type=math.inf)
        said = f"gradient is not finite in {place}; images: {', '.join(ids)}"
        checks.add(torch.isfinite(largest), lambda: DivergedError(said))
    scaler.step(optimizer)
    scaler.update()
    if scaler.is_enabled():
        scale = scaler.scale(torch.ones((), device=optimizer.param_groups[0]["params"][0].device))
        often = (
            f"gradient is not finite in {place} and the steps before it, at any loss scale; images: {', '.join(ids)}"
        )
        checks.add(scale >= LEAST_SCALE, lambda: DivergedError(often))


def refuse_row(row: Mapping[str, float], place: str) -> None:
    """
    Raises:
        DivergedError: a metric is NaN or infinite.
    """
    wrong = [f"{name} {value:g}" for name, value in row.items() if not math.isfinite(value)]
    if wrong:
        raise DivergedError(f"metrics are not finite in {place}: {', '.join(wrong)}")
