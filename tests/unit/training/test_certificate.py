"""Every law holds for an exact model, and each is broken by the mistake that it is there to find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from models.manifest import Certificate, DataSpace, Support
from tests.unit.training.linear import LinearFlow, rows, subject
from training import Mistake
from training.certificate import certify, demand, finite, log_prior, mass
from training.graphs import Graph, run_eager
from training.toys import TOYS


@pytest.fixture
def flow() -> LinearFlow:
    return LinearFlow(2).eval()


def eager(flow: LinearFlow, entry: str) -> Graph:
    return run_eager(flow, entry, torch.float32)


def failing(certificate: Certificate) -> set[str]:
    return {check.name for check in certificate.failures}


def test_an_exact_flow_keeps_every_law(flow: LinearFlow) -> None:
    certificate = certify(subject(flow))
    assert certificate.passed
    measured = " ".join(check.name for check in certificate.checks)
    for law in ("finite", "parity", "round trip", "log|det|", "mass", "batch"):
        assert law in measured


def test_a_log_determinant_of_the_wrong_sign_breaks_two_laws() -> None:
    certificate = certify(subject(LinearFlow(2, sign=-1.0).eval()))
    assert failing(certificate) == {"log|det| against autograd", "mass, from 1"}
    with pytest.raises(
        Mistake, match=r"flow is not exported: log\|det\|.* is 0\.446 nats .*allowed is .*mass"
    ):
        demand(certificate, "flow")


@pytest.mark.parametrize("edge", [4.5, 5.0, 6.0])
def test_the_mass_of_a_density_with_straight_edges_is_one(flow: LinearFlow, edge: float) -> None:
    """On a square grid these come out four to eight thousandths wrong."""

    def log_weight(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (TOYS["checkerboard"].log_density(inputs[0]),)

    board = replace(
        subject(flow, log_weight=log_weight),
        data=DataSpace(shape=(2,), support=(Support(low=-edge, high=edge),)),
    )
    (check,) = mass(board)
    assert check.value < 3e-4


def test_a_graph_that_looks_at_the_other_rows_breaks_the_batch_law(flow: LinearFlow) -> None:
    def centred(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        (z,) = eager(flow, "encode")(inputs)
        return (z - 1e-6 * z.mean(0),)

    assert "batch encode onnx" in failing(certify(subject(flow, encode=centred)))


def test_a_graph_that_answers_by_place_breaks_the_batch_law(flow: LinearFlow) -> None:
    def numbered(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        (z,) = eager(flow, "encode")(inputs)
        return (z + 1e-6 * np.arange(len(z), dtype=np.float32)[:, None],)

    assert "batch encode onnx" in failing(certify(subject(flow, encode=numbered)))


def test_a_likelihood_off_by_a_fraction_of_a_nat_breaks_parity(flow: LinearFlow) -> None:
    def shifted(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (eager(flow, "log_weight")(inputs)[0] + np.float32(3e-4),)

    assert failing(certify(subject(flow, log_weight=shifted))) == {"parity log_weight.log_w onnx"}


def test_a_branch_that_only_rows_far_out_would_take_breaks_parity_there(flow: LinearFlow) -> None:
    usual = np.abs(rows(flow)).max()

    def fixed(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return eager(flow, "encode")((np.clip(x, -usual, usual),))

    broken = certify(subject(flow, encode=fixed)).failures
    assert {check.name for check in broken} == {"parity encode onnx"}
    assert all("tail" in check.rows or "boundary" in check.rows for check in broken)


def test_an_encoder_that_is_not_the_inverse_breaks_the_round_trip(flow: LinearFlow) -> None:
    with torch.no_grad():
        flow.inverse[0, 0] *= 1.01
    broken = failing(certify(subject(flow)))
    assert {"round trip onnx", "round trip eager float64"} <= broken


def test_a_row_without_an_answer_is_counted(flow: LinearFlow) -> None:
    def holed(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        (z,) = eager(flow, "encode")(inputs)
        z[0] = np.nan
        return (z,)

    assert [check.value for check in finite(subject(flow, encode=holed)) if not check.passed] == [4]
    with pytest.raises(Mistake, match=r"parity encode\.z onnx is nan"):
        certify(subject(flow, encode=holed))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda z: (z[:1],), "answers 3 rows with 1; allowed are 3"),
        (lambda z: (z.astype(np.float64),), r"z has rows of float64 \[2\]; declared are float32 \[2\]"),
        (lambda z: (z[:, :1],), r"z has rows of float32 \[1\]; declared are float32 \[2\]"),
        (lambda z: (z, z), "gives 2 outputs; declared are 1"),
    ],
    ids=["rows", "dtype", "shape", "outputs"],
)
def test_a_graph_that_is_not_as_declared_is_refused(flow: LinearFlow, answer, sentence: str) -> None:
    with pytest.raises(Mistake, match=sentence):
        certify(subject(flow, encode=lambda inputs: answer(eager(flow, "encode")(inputs)[0])))


def test_without_the_model_formats_are_held_against_each_other(flow: LinearFlow) -> None:
    both = replace(subject(flow), model=None)
    for entry, graphs in both.graphs.items():
        graphs["torchscript"] = eager(flow, entry)
    assert certify(both).passed
    both.graphs["encode"]["torchscript"] = lambda inputs: (eager(flow, "encode")(inputs)[0] * 1.1,)
    assert "parity encode.z torchscript against onnx" in failing(certify(both))


@pytest.mark.parametrize(
    ("law", "twin"),
    [("standard_normal", stats.norm), ("logistic", stats.logistic), ("uniform", stats.uniform)],
)
def test_log_densities_of_the_priors_are_scipys(law, twin) -> None:
    z = twin.rvs(size=(5, 4), random_state=0)
    np.testing.assert_allclose(log_prior(law, z), twin.logpdf(z).sum(1), rtol=1e-12)
