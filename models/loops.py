"""Repetition that stays a loop in an exported graph, where copies of its body would take minutes to write."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor as Array
from torch._higher_order_ops.while_loop import while_loop


def repeat(step: Callable[[Array], Array], state: Array, times: int) -> Array:
    """``step`` applied ``times`` times, to an array of unchanging shape.

    The ONNX exporter writes an ONNX Loop for it; everything else runs, or traces, one step after the other.
    """
    if torch.compiler.is_exporting():
        count = torch.zeros((), dtype=torch.int64, device=state.device)
        _, state = while_loop(lambda i, _: i < times, lambda i, x: (i + 1, step(x)), (count, state))
        return state
    for _ in range(times):
        state = step(state)
    return state
