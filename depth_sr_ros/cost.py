# SPDX-License-Identifier: Apache-2.0
"""What a forward pass costs: the FLOPs and bytes of those of its operations that cannot be fused.

Counted of what torch really runs, with the shapes and types that it has then. docs/benchmarks/roofline.md
says why these operations and no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# A batched product of matrices no larger than this, numbers, is one small product for each pixel: a fused
# kernel keeps all three in registers. 16x16 is the tile of a tensor core.
REGISTER_TILE = 256


@dataclass(frozen=True)
class Operation:
    """One operation. `kind`: convolution, depthwise, product, attention or reduction."""

    kind: str
    dtype: str
    """Of its input, a name of PRECISIONS: it says which rate bounds it."""
    shape: tuple[int, ...]
    """Of its output."""
    flop: int
    """A multiplication and an addition are two."""
    bytes: int
    """Inputs, weights and outputs, each once."""


@dataclass(frozen=True)
class Cost:
    """What one frame costs: all operations, in their order."""

    operations: tuple[Operation, ...]

    @property
    def flop(self) -> int:
        return sum(each.flop for each in self.operations)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.operations)

    def grouped(self) -> list[dict[str, Any]]:
        """Ready for JSON: an operation's fields, and `number`, how many were alike; the costliest first.

        `flop` and `bytes` are of one of them.
        """
        groups = [asdict(each) | {"number": n} for each, n in Counter(self.operations).items()]
        return sorted(groups, key=lambda group: -group["number"] * (group["flop"] + group["bytes"]))


def count(call: Callable[[], object]) -> Cost:
    """Run `call` once, in inference mode, and count the operations of torch in this thread."""
    with torch.inference_mode(), _Counter() as counter:
        call()
    return Cost(tuple(counter.operations))


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        cost = _COUNTED.get(func.overloadpacket)
        if cost is None:
            # In inference mode composite operations arrive whole: their parts are what is counted. Attention
            # is composite too, but fused kernels run it, which keep their products to themselves.
            with self:
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        found = cost([*args, *kwargs.values()], out)
        if found is not None:
            self.operations.append(found)
        return out


def _operation(kind: str, args: Sequence[Any], out: Tensor, flop: int) -> Operation:
    tensors = [each for each in args if isinstance(each, Tensor)]
    dtype = str(tensors[-1].dtype).removeprefix("torch.")
    return Operation(kind, dtype, tuple(out.shape), flop, sum(map(_bytes, [*tensors, out])))


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


def _convolution(args: Sequence[Any], out: Tensor) -> Operation:
    image, weight = args[:2]
    # aten.convolution's seventh argument; oneDNN's convolution, which Pointwise calls, has no such form.
    transposed = len(args) > 7 and args[6] is True
    places = image if transposed else out
    depthwise = weight.shape[1] == 1 and image.shape[1] > 1 and not transposed
    kind = "depthwise" if depthwise else "convolution"
    return _operation(kind, args, out, 2 * places.numel() * weight[0].numel())


def _product(args: Sequence[Any], out: Tensor) -> Operation:
    left, right = [each for each in args if isinstance(each, Tensor)][-2:]  # addmm and baddbmm: after the sum
    found = _operation("product", args, out, 2 * out.numel() * left.shape[-1])
    if left.ndim == 3 and max(each[0].numel() for each in (left, right, out)) <= REGISTER_TILE:
        return Operation(found.kind, found.dtype, found.shape, found.flop, 0)
    return found


def _attention(args: Sequence[Any], out: Tensor | tuple[Any, ...]) -> Operation:
    query, key, value = args[:3]
    answer = out if isinstance(out, Tensor) else out[0]
    flop = 2 * query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    return _operation("attention", args[:3], answer, flop)


def _reduction(args: Sequence[Any], out: Tensor | tuple[Tensor, ...]) -> Operation | None:
    """None where it is not over the whole image: it is then done while a pixel is at hand."""
    image, over = args[0], args[1] if len(args) > 1 else None
    if isinstance(over, Tensor):  # the larger of two images
        return None
    dims = [over] if type(over) is int else over
    if isinstance(dims, (list, tuple)) and dims:
        # of (B, C, H, W) the last two, of (B, N), an image in a row, the last
        whole = {image.ndim - 1, image.ndim - min(2, max(1, image.ndim - 1))}
        if not whole <= {dim % image.ndim for dim in dims}:
            return None
    answer = out if isinstance(out, Tensor) else out[0]
    dtype = str(image.dtype).removeprefix("torch.")
    return Operation("reduction", dtype, tuple(answer.shape), 0, _bytes(image))


_KINDS: dict[Callable[[Sequence[Any], Any], Operation | None], tuple[str, ...]] = {
    _convolution: ("convolution", "mkldnn_convolution"),
    _product: ("mm", "addmm", "bmm", "baddbmm"),
    _reduction: ("mean", "sum", "var", "std", "var_mean", "amax", "amin", "max", "min", "median", "sort"),
    # Outside of inference mode torch has chosen a kernel before the call arrives here.
    _attention: (
        "scaled_dot_product_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    ),
}
_aten = torch.ops.aten
# Some of the names came with a later torch, or are missing where it was built without oneDNN.
_COUNTED = {
    getattr(_aten, name): cost for cost, names in _KINDS.items() for name in names if hasattr(_aten, name)
}
