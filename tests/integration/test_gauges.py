"""What an operator sees of the models themselves: live scores beside held-out ones, and who was refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import graphs
from tests.integration.conftest import Client, serving

pytestmark = pytest.mark.anyio
LIVE, HELD_OUT = "pushforward_log_likelihood_nats_bucket", "pushforward_held_out_log_likelihood_nats_bucket"
ROWS = "pushforward_loglik_rows_total"


async def scraped(client: Client, name: str, **labels: str) -> dict[str, float]:
    """The values of a metric by what its other labels say."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return {
        "/".join(v for k, v in sorted(s.labels.items()) if k not in labels): s.value
        for family in families
        for s in family.samples
        if s.name == name and labels.items() <= s.labels.items()
    }


async def test_live_rows_are_counted_by_status_and_held_against_held_out_ones(quick: Path) -> None:
    async with serving(quick) as client:
        rows = [[0.0, 1.0, 2.0], [1e3, 1e3, 1e3], [1e30, 0.0, 0.0], [0.0, 0.5, 1.0]]
        answer = await client.ask("loglik", model="linear", inputs=rows)
        assert answer["status"] == ["ok", "extrapolating", "out_of_support", "ok"]
        model = {"model": "linear", "version": "1"}
        assert await scraped(client, ROWS, **model) == {
            "ok": 2,
            "extrapolating": 1,
            "numeric": 0,
            "out_of_support": 1,
        }
        assert (await scraped(client, LIVE, **model))["+Inf"] == 3  # the finite ones
        held_out = await scraped(client, HELD_OUT, **model)
        assert held_out["+Inf"] == 200
        assert max(float(bound) for bound, rows in held_out.items() if not rows) < answer["log_likelihood"][0]


async def test_a_model_without_held_out_scores_is_counted_only(quick: Path) -> None:
    async with serving(quick) as client:
        await client.ask("loglik", model="gaussian-vae", inputs=[[0.0] * 3] * 5, k=2)
        assert (await scraped(client, ROWS, model="gaussian-vae", version="1"))["ok"] == 5
        assert not await scraped(client, LIVE, model="gaussian-vae")


async def test_a_model_that_is_not_right_is_counted_until_it_is_mended(tmp_path: Path) -> None:
    graph = graphs.linear_flow(tmp_path) / "decode.onnx"
    right = graph.read_bytes()
    async with serving(tmp_path) as client:
        assert await scraped(client, "pushforward_models_refused") == {"": 0}
        graphs.linear_flow(tmp_path, version="2")
        spoilt = tmp_path / "linear/2/decode.onnx"
        spoilt.write_bytes(right[:-1])
        await client.post("/models/reload")
        assert await scraped(client, "pushforward_models_refused") == {"": 1}
        spoilt.write_bytes(right)
        await client.post("/models/reload")
        assert await scraped(client, "pushforward_models_refused") == {"": 0}
