"""Laws that every family keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor as Array
from torch import nn

from models.base import Entry, Model
from models.families import build
from models.gan import GAN
from models.layers import fold_batch_norm
from tests.unit.models.zoo import Case, draw_rows, source

Inputs = Callable[..., tuple[Array, ...]]


def single(x: Array) -> Array:
    """In float32, what is a number at all; labels stay as they are."""
    return x.float() if x.is_floating_point() else x


def run(model: Model, entry: str, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    with torch.no_grad():
        return Entry(model, entry)(*inputs)


def test_outputs_are_as_the_signatures_say(model: Model, inputs: Inputs) -> None:
    model.float()
    for entry, signature in model.signatures().items():
        for rows in (1, 5):
            outputs = run(model, entry, tuple(map(single, inputs(entry, rows))))
            assert len(outputs) == len(signature.outputs)
            for output, tensor in zip(outputs, signature.outputs, strict=True):
                assert output.shape == (rows, *tensor.row_shape)
                assert str(output.dtype) == f"torch.{tensor.dtype}"


def test_the_entries_are_those_that_the_grades_promise(model: Model) -> None:
    entries = model.signatures().keys()
    assert ("log_weight" in entries) == (model.grades.density != "none")
    if model.grades.latents != "code":  # which may be one way
        assert ("encode" in entries) == (model.grades.latents != "none")
    assert ("decode" in entries) == (model.grades.generator != "none")


def test_a_row_alone_is_the_row_in_a_crowd(model: Model, inputs: Inputs) -> None:
    for entry in model.signatures():
        crowd = inputs(entry, 9)
        together = run(model, entry, crowd)
        for i in (0, 4, 8):
            alone = run(model, entry, tuple(x[i : i + 1] for x in crowd))
            for one, all_of_them in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], all_of_them[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_a_bad_row_disturbs_no_other(model: Model, inputs: Inputs, bad: float) -> None:
    for entry in model.signatures():
        good = inputs(entry, 5)
        spoilt = tuple(x.clone() for x in good)
        for x in spoilt:
            x[2] = bad if x.is_floating_point() else 2**62
        for before, after in zip(run(model, entry, good), run(model, entry, spoilt), strict=True):
            torch.testing.assert_close(before[[0, 1, 3, 4]], after[[0, 1, 3, 4]], rtol=1e-12, atol=1e-12)


def test_nothing_is_drawn_inside(model: Model, inputs: Inputs) -> None:
    for entry in model.signatures():
        before = torch.get_rng_state()
        first, second = (run(model, entry, inputs(entry, 3)) for _ in range(2))
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_inside_the_support_everything_is_finite_in_float32(model: Model, inputs: Inputs) -> None:
    model.float()
    ends = [(s.low, s.high) for s in model.data.support if s.low is not None]
    for entry, signature in model.signatures().items():
        rows = [single(x) for x in inputs(entry, 4)]
        for x, tensor in zip(rows, signature.inputs, strict=True):
            if tensor.role == "data" and ends:
                low, high = (torch.tensor(end, dtype=torch.float32) for end in zip(*ends, strict=True))
                x[0], x[1] = (end.expand(model.data.size).view(model.data.shape) for end in (low, high))
            elif tensor.role == "data":
                x[0], x[1] = 1e4, -1e4
        assert all(output.isfinite().all() for output in run(model, entry, tuple(rows)))


@pytest.mark.parametrize("size", [3.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_samples_lie_within_the_support(
    model: Model, inputs: Inputs, dtype: torch.dtype, size: float
) -> None:
    """To the last bit, as a service compares: its own sample must never be refused as no data."""
    noise = (size * z if z.is_floating_point() else z for z in inputs("decode", 200))
    given = tuple(z.to(dtype) if z.is_floating_point() else z for z in noise)
    (x,) = run(model.to(dtype), "decode", given)
    for i, row in enumerate(x.double().flatten(1).T):
        support = model.data.support[i % len(model.data.support)]
        assert support.low is None or row.min() >= support.low
        assert support.high is None or row.max() <= support.high


def test_every_parameter_receives_a_gradient(model: Model, inputs: Inputs) -> None:
    outputs = [out for entry in model.signatures() for out in Entry(model, entry)(*inputs(entry, 8))]
    if isinstance(model, GAN):
        outputs.append(model.discriminator(outputs[0], *inputs("decode", 8)[1:]))
    sum(out.square().mean() for out in outputs).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_a_tensor_is_held_once(model: Model) -> None:
    state = model.state_dict().values()
    assert len({x.data_ptr() for x in state}) == len(state)


def test_constants_are_born_in_float64(case: Case) -> None:
    """A buffer rounded at birth makes a float64 model that is right to seven digits only."""
    buffers = build(case.config, case.data).named_buffers()
    passing = ("running_", "discriminator.")  # learned like weights, or never exported
    rounded = [n for n, b in buffers if b.dtype == torch.float32 and not any(part in n for part in passing)]
    assert rounded == []


def test_a_model_loads_what_another_of_its_kind_saved(model: Model, case: Case, inputs: Inputs) -> None:
    copy = build(case.config, case.data).double().eval()
    copy.load_state_dict(model.state_dict())
    for entry in model.signatures():
        given = inputs(entry, 3)
        for a, b in zip(run(model, entry, given), run(copy, entry, given), strict=True):
            assert torch.equal(a, b)


def test_statistics_of_constant_rows_leave_the_model_finite(model: Model, case: Case, inputs: Inputs) -> None:
    model.fit_statistics(draw_rows(case.data, 1).expand(4, *case.data.shape))
    for entry in model.signatures():
        assert all(output.isfinite().all() for output in run(model, entry, inputs(entry, 3)))


def test_folding_batch_norm_changes_no_answer_and_leaves_none(model: Model, inputs: Inputs) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training, not as at birth
            module.running_mean.normal_(generator=source(3))
            module.running_var.uniform_(0.5, 2, generator=source(4))
    folded = fold_batch_norm(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for entry in model.signatures():
        given = inputs(entry, 5)
        for a, b in zip(run(model, entry, given), run(folded, entry, given), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
