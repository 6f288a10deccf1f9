"""Entry points become files of both formats, and files become functions again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor as Array

from models.base import Model
from models.maf import MAF, MAFConfig
from models.manifest import DataSpace, EntryName, Format
from tests.unit.training.linear import LinearFlow, rows
from training import Mistake
from training.graphs import RUN, SUFFIX, WRITE, check_onnx, run_eager

EXAMPLE = (np.zeros((2, 3), np.float32),)
FORMATS: tuple[Format, ...] = ("onnx", "torchscript")


@pytest.fixture(scope="module")
def flow() -> LinearFlow:
    return LinearFlow().eval()


@pytest.fixture(scope="module")
def files(flow: LinearFlow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    for entry in flow.signatures():
        for form, write in WRITE.items():
            write(flow, entry, EXAMPLE, folder / f"{entry}{SUFFIX[form]}")
    return folder


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("entry", ["decode", "encode", "log_weight"])
@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_graph_answers_like_the_model_at_row_counts_that_were_never_traced(
    flow: LinearFlow, files: Path, entry: EntryName, form: Format, count: int
) -> None:
    x = rows(flow, count)
    (found,) = RUN[form](files / f"{entry}{SUFFIX[form]}")((x,))
    (expected,) = run_eager(flow, entry, torch.float32)((x,))
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_an_onnx_file_names_what_the_signature_names_and_calls_its_rows_a_batch(files: Path) -> None:
    graph = onnx.load(files / "encode.onnx").graph
    (x,), (z,) = graph.input, graph.output
    assert (x.name, z.name) == ("x", "z")
    for value in (x, z):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_file_is_alone_and_tells_nothing_of_the_machine(files: Path) -> None:
    assert {path.suffix for path in files.iterdir()} == {".onnx", ".ts"}
    here = str(Path(__file__).parents[3]).encode()
    assert here not in (files / "encode.onnx").read_bytes()
    with zipfile.ZipFile(files / "encode.ts") as archive:
        assert not any(here in archive.read(name) for name in archive.namelist())


def test_a_repeated_step_is_one_loop_which_tells_nothing_of_the_machine_either(tmp_path: Path) -> None:
    flow = MAF(MAFConfig(layers=1, hidden=(4,)), DataSpace(shape=(2,))).eval()
    WRITE["onnx"](flow, "decode", (np.zeros((2, 2), np.float32),), tmp_path / "decode.onnx")
    graph = onnx.load(tmp_path / "decode.onnx").graph
    assert [node.op_type for node in graph.node].count("Loop") == 1
    assert str(Path(__file__).parents[3]).encode() not in (tmp_path / "decode.onnx").read_bytes()


def test_the_same_model_gives_the_same_onnx_file(flow: LinearFlow, files: Path, tmp_path: Path) -> None:
    WRITE["onnx"](flow, "encode", EXAMPLE, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (files / "encode.onnx").read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_a_graph_of_precision_float64_is_wrong_by_the_last_rounding_alone(
    flow: LinearFlow, files: Path, form: Format
) -> None:
    far = rows(flow, 64) * 30  # log p of about -1000 nats, which float32 arithmetic misses by 1e-4 and more
    (found,) = RUN[form](files / f"log_weight{SUFFIX[form]}")((far,))
    (exact,) = run_eager(LinearFlow().double(), "log_weight", torch.float64)((far,))
    np.testing.assert_allclose(found, exact, rtol=2**-24)


@pytest.mark.parametrize("form", FORMATS)
def test_a_log_weight_that_overflows_is_no_number_instead_of_an_impossible_row(
    files: Path, form: Format
) -> None:
    x = np.array([[1e18] * 3, [1e30] * 3, [-3e38] * 3], np.float32)
    (found,) = RUN[form](files / f"log_weight{SUFFIX[form]}")((x,))
    assert np.isfinite(found[0])
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("form", FORMATS)
def test_the_exporter_prints_nothing(
    flow: LinearFlow, form: Format, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    WRITE[form](flow, "encode", EXAMPLE, tmp_path / "graph")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", FORMATS)
def test_a_weight_that_is_no_number_is_refused_by_name(form: Format, tmp_path: Path) -> None:
    broken = LinearFlow().eval()
    with torch.no_grad():
        broken.shift[1] = torch.nan
    with pytest.raises(Mistake, match=r"weight 'shift' holds 1 numbers out of 3 that are not finite"):
        WRITE[form](broken, "decode", EXAMPLE, tmp_path / "graph")


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_in_training_mode_is_refused(form: Format, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="training mode"):
        WRITE[form](LinearFlow(), "decode", EXAMPLE, tmp_path / "graph")


class Branching(LinearFlow):
    """Asks the rows which way to go: what a trace cannot follow."""

    def decode(self, z: Array) -> Array:
        return z if z.sum() > 0 else super().decode(z)


@pytest.mark.parametrize("form", FORMATS)
def test_a_branch_that_depends_on_the_rows_is_refused_not_fixed(form: Format, tmp_path: Path) -> None:
    model: Model = Branching().eval()
    with pytest.raises(Mistake, match="decode cannot be exported to"):
        WRITE[form](model, "decode", EXAMPLE, tmp_path / "graph")
    assert not list(tmp_path.iterdir())


def constant(values: list[float]) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[batch, {len(values)}] x) => (float[batch, {len(values)}] y)
        <float[{len(values)}] c = {{{", ".join(map(str, values))}}}> {{ y = Add(x, c) }}"""
    )


def test_constants_may_hold_a_lone_infinity_but_nothing_else_that_is_no_number() -> None:
    infinite = constant([1.0])
    infinite.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.float32([-np.inf]), "c"))
    check_onnx(infinite, "fine")
    infinite.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.float32([np.nan]), "c"))
    with pytest.raises(Mistake, match="constant 'c' holds 1 numbers out of 1"):
        check_onnx(infinite, "broken")


def test_a_model_that_is_not_valid_is_refused() -> None:
    model = constant([1.0])
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(Mistake, match="not a valid ONNX model"):
        check_onnx(model, "broken")
