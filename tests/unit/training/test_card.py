"""The model card says what the manifest says."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from models.manifest import (
    Certificate,
    Check,
    DataSpace,
    Density,
    EntryPoint,
    Generator,
    Grades,
    GraphFile,
    Latents,
    LatentSpace,
    Manifest,
    Metric,
    Probe,
    Provenance,
    Support,
    Tensor,
)
from training.card import card

ONE = GraphFile(path="g.onnx", sha256="0" * 64, size_bytes=1)
LAW = Check(
    name="log|det| against autograd", value=3e-14, tolerance=1e-8, unit="nats", rows="8 typical", passed=True
)


def manifest(size: int = 2, grades: Grades | None = None) -> Manifest:
    z = Tensor(name="z", role="latent", shape=("B", 2))
    x = Tensor(name="x", role="data", shape=("B", size))
    log_w = Tensor(name="log_w", role="log_weight", shape=("B",))
    grades = grades or Grades(density="exact", latents="bijection", generator="one_shot")
    entries = {
        "decode": (z, x) if grades.generator != "none" else None,
        "encode": (x, z) if grades.latents in ("bijection", "posterior") else None,
        "log_weight": (x, log_w) if grades.density != "none" else None,
    }
    entries = {name: tensors for name, tensors in entries.items() if tensors}
    return Manifest(
        name="thing",
        version="3",
        family="flow",
        paper="Somebody 2020",
        data=DataSpace(shape=(size,), support=(Support(low=0.0, high=16.0, lattice=True),), levels=17),
        latent=LatentSpace(shape=(2,)),
        grades=grades,
        entry_points={
            name: EntryPoint(inputs=(a,), outputs=(b,), files={"onnx": ONE})
            for name, (a, b) in entries.items()
        },
        probes={
            name: Probe(inputs={a.name: [[0.12345678] * a.row_shape[0]]}, outputs={}, tolerance=1.0)
            for name, (a, b) in entries.items()
        },
        certificate=Certificate(checks=(LAW,)),
        provenance=Provenance(
            recipe={"title": "A thing", "layers": 8},
            seed=7,
            tools={"torch": "2.13.0"},
            created_at="2026-11-21T00:00:00+00:00",
            metrics={"bits_per_dim": Metric(value=2.0956, unit="bits/dim", kind="upper_bound", k=64)},
        ),
    )


def test_it_names_the_model_its_source_and_its_recipe() -> None:
    text = card(manifest())
    for part in ("# thing, version 3", "A thing", "Somebody 2020", "seed 7", "torch 2.13.0", '"layers": 8'):
        assert part in text


def test_spaces_and_numbers_come_with_units() -> None:
    text = card(manifest())
    assert "rows of shape [2], float32, whole numbers from 0 to 16" in text
    assert "quantised to 17 levels" in text
    assert "| bits_per_dim | 2.096 | bits/dim | upper_bound, k = 64 |" in text


@pytest.mark.parametrize("density", ["exact", "lower_bound", "estimate", "unnormalised", "none"])
@pytest.mark.parametrize("latents", ["bijection", "posterior", "code", "none"])
@pytest.mark.parametrize("generator", ["one_shot", "sequential", "chain"])
def test_the_table_of_grades_has_a_cell_for_each(
    density: Density, latents: Latents, generator: Generator
) -> None:
    text = card(manifest(grades=Grades(density=density, latents=latents, generator=generator)))
    table = text.split("## What it can do")[1].split("##")[0].strip().splitlines()
    head, _, row = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table)
    assert head == ["Latents?", "Density?", "Generator?"]
    assert [cell.startswith("no") for cell in row] == [latents == "none", density == "none", False]


def test_every_law_is_a_row_of_five_cells() -> None:
    row = next(line for line in card(manifest()).splitlines() if "autograd" in line)
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert cells == [r"log\|det\| against autograd", "3e-14", "1e-08", "nats", "8 typical"]


def calls(text: str) -> list[list[str]]:
    script = text.split("```sh\n")[1].split("```")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in script.strip().splitlines()]


def test_every_verb_has_a_call_whose_body_is_json() -> None:
    bodies = {call[2].rsplit("/", 1)[1]: json.loads(call[-1]) for call in calls(card(manifest()))}
    assert bodies.keys() == {"sample", "encode", "decode", "reconstruct", "interpolate", "loglik"}
    assert all(body["model"] == "thing" for body in bodies.values())
    assert bodies["loglik"]["inputs"] == [[0.1235, 0.1235]]


def test_rows_too_long_to_read_are_sent_as_a_file() -> None:
    encode = next(call for call in calls(card(manifest(size=784))) if "/encode" in call[2])
    assert encode[2].endswith("/encode?model=thing")
    assert encode[-1] == "@rows.npy"


def test_a_model_without_a_density_has_no_call_for_it() -> None:
    text = card(manifest(grades=Grades(density="none", latents="code", generator="one_shot")))
    assert "/loglik" not in text
    assert "/sample" in text
