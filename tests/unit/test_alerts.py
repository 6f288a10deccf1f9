"""Each alert fires when what it is for happens, and none does on a healthy service; promtool moves the time.

Series are written as promtool wants them: ``5+60x30`` grows by 60 in each of 30 minutes, ``1x30`` stays.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"][0]["rules"]
RUNBOOK = (ROOT / "docs/operating.md").read_text()
MINUTES = 90

Series = dict[str, str]

AT = 'job="pushforward", instance="a:8000"'
LANE = f'{AT}, model="flow", version="1", entry_point="decode"'
CALLS = f'pushforward_requests_total{{{AT}, verb="loglik", model="flow", status='
LIVE = "pushforward_log_likelihood_nats_bucket"
HELD_OUT = "pushforward_held_out_log_likelihood_nats_bucket"
FLOW = f'{AT}, model="flow", version="1"'


def histogram(name: str, labels: str, rows_a_minute: dict[str, int]) -> Series:
    """Buckets by bound, cumulative."""
    return {f'{name}{{{labels}, le="{le}"}}': f"0+{n}x{MINUTES}" for le, n in rows_a_minute.items()}


def steady(value: float) -> str:
    return f"{value}x{MINUTES}"


# 600 requests a minute, one in a thousand of them an error, nothing slow, nothing strange.
HEALTHY: Series = {
    f"up{{{AT}}}": steady(1),
    f"pushforward_ready{{{AT}}}": steady(1),
    f"process_start_time_seconds{{{AT}}}": steady(1000),
    f'pushforward_backend_info{{{LANE}, provider="CUDAExecutionProvider"}}': steady(1),
    f"pushforward_oldest_batch_seconds{{{AT}}}": steady(0.2),
    f'{CALLS}"200"}}': f"0+600x{MINUTES}",
    f'{CALLS}"500"}}': f"0+1x{MINUTES}",
    f'pushforward_rejections_total{{{AT}, reason="queue_full"}}': f"0+1x{MINUTES}",
    **histogram(
        "pushforward_request_seconds_bucket",
        f'{AT}, verb="loglik", model="flow"',
        {"0.1": 598, "5": 600, "+Inf": 600},
    ),
    **histogram(
        "pushforward_request_seconds_bucket",
        f'{AT}, verb="sample", model="flow"',
        {"0.1": 0, "5": 0, "+Inf": 60},
    ),  # people who download slowly
    **histogram("pushforward_queue_wait_seconds_bucket", LANE, {"0.1": 598, "5": 600, "+Inf": 600}),
    f"pushforward_queue_fullness_ratio{{{LANE}}}": steady(0.3),
    f"pushforward_models_refused{{{AT}}}": steady(0),
    f"pushforward_redis_breaker_open{{{AT}}}": steady(0),
    f'pushforward_loglik_rows_total{{{FLOW}, status="ok"}}': f"0+1000x{MINUTES}",
    f'pushforward_loglik_rows_total{{{FLOW}, status="out_of_support"}}': f"0+10x{MINUTES}",
    **histogram(LIVE, FLOW, {"-3": 110, "-2": 480, "-1": 900, "+Inf": 1000}),
    f'{HELD_OUT}{{{FLOW}, le="-3"}}': steady(20),
    f'{HELD_OUT}{{{FLOW}, le="-2"}}': steady(100),
    f'{HELD_OUT}{{{FLOW}, le="-1"}}': steady(180),
    f'{HELD_OUT}{{{FLOW}, le="+Inf"}}': steady(200),
}

# What is different when something is wrong; a series of "_" is one that is gone.
SICK: dict[str, dict[str, Series]] = {
    "PushforwardDown": {
        "a replica that does not answer": {f"up{{{AT}}}": steady(0)},
        "no replica to be found": {f"up{{{AT}}}": f"1x30 _x{MINUTES}"},
    },
    "PushforwardNotReady": {"no model is right": {f"pushforward_ready{{{AT}}}": steady(0)}},
    "PushforwardRestarting": {
        "a new process every other minute": {
            f"process_start_time_seconds{{{AT}}}": " ".join(f"{n}x1" for n in range(60))
        }
    },
    "PushforwardProcessSilent": {
        "one of two hangs": {
            f'pushforward_process_up{{{AT}, process="0"}}': steady(1),
            f'pushforward_process_up{{{AT}, process="1"}}': steady(0),
        }
    },
    "PushforwardDeviceLost": {
        "the next process found no GPU": {
            f'pushforward_backend_info{{{LANE}, provider="CUDAExecutionProvider"}}': f"1x60 _x{MINUTES}",
            f'pushforward_backend_info{{{LANE}, provider="CPUExecutionProvider"}}': f"_x60 1x{MINUTES}",
        }
    },
    "PushforwardDeviceHangs": {
        "a batch that never ends": {f"pushforward_oldest_batch_seconds{{{AT}}}": f"0+60x{MINUTES}"}
    },
    "PushforwardErrors": {
        "one in fifty": {f'{CALLS}"500"}}': f"0+12x{MINUTES}"},
        "all of them": {f'{CALLS}"200"}}': steady(0)},
    },
    "PushforwardSlow": {
        "two in a hundred take seconds": histogram(
            "pushforward_request_seconds_bucket",
            f'{AT}, verb="loglik", model="flow"',
            {"0.1": 580, "5": 600, "+Inf": 600},
        )
    },
    "PushforwardQueueSlow": {
        "two in a hundred wait for seconds": histogram(
            "pushforward_queue_wait_seconds_bucket", LANE, {"0.1": 580, "5": 600, "+Inf": 600}
        )
    },
    "PushforwardQueueFilling": {"nine tenths": {f"pushforward_queue_fullness_ratio{{{LANE}}}": steady(0.9)}},
    "PushforwardRefusingLoad": {
        "one in twenty": {f'pushforward_rejections_total{{{AT}, reason="queue_full"}}': f"0+30x{MINUTES}"}
    },
    "PushforwardModelRefused": {"a file that changed": {f"pushforward_models_refused{{{AT}}}": steady(1)}},
    "PushforwardRedisOut": {"Redis is gone": {f"pushforward_redis_breaker_open{{{AT}}}": steady(1)}},
    "PushforwardDrift": {
        "rows that lie lower": histogram(LIVE, FLOW, {"-3": 400, "-2": 800, "-1": 990, "+Inf": 1000}),
        "rows below all of those held out": histogram(
            LIVE, FLOW, {"-3": 1000, "-2": 1000, "-1": 1000, "+Inf": 1000}
        ),
    },
    "PushforwardOutOfSupport": {
        "another unit": {
            f'pushforward_loglik_rows_total{{{FLOW}, status="out_of_support"}}': f"0+100x{MINUTES}"
        }
    },
}
# What one process of two has is what the replica has; of the others, traffic is shared and reckoned together.
ONE_IS_ENOUGH = (
    "PushforwardNotReady",
    "PushforwardRestarting",
    "PushforwardDeviceLost",
    "PushforwardDeviceHangs",
    "PushforwardQueueFilling",
    "PushforwardModelRefused",
    "PushforwardRedisOut",
)
OF_ALL = ("up{", "pushforward_process_up{")
NAMES = [rule["alert"] for rule in RULES]


def processes(*states: Series) -> Series:
    """The series of a replica whose processes have states of their own; who is up, the replica says."""
    return {
        series if series.startswith(OF_ALL) else series.replace("{", f'{{process="{number}", ', 1): values
        for number, state in enumerate(states)
        for series, values in state.items()
    }


def scenario(name: str, series: Series, expected: dict[str, bool]) -> dict[str, Any]:
    """One test of promtool's: whether alerts fire after 85 minutes of the series."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'(count(ALERTS{{alertname="{alert}", alertstate="firing"}}) > bool 0) or vector(0)',
                "eval_time": "85m",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
            for alert, fires in expected.items()
        ],
    }


def complaints(folder: Path, *scenarios: dict[str, Any]) -> str:
    """What promtool has to say, nothing if all is as expected."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here (make test installs it as root on Debian)")
    file = folder / "test.json"
    rules = [str(ROOT / "deploy/alerts.yml")]
    file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": scenarios}))
    verdict = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True)
    return "" if verdict.returncode == 0 else verdict.stdout + verdict.stderr


@pytest.mark.prometheus
@pytest.mark.parametrize("series", [HEALTHY, processes(HEALTHY, HEALTHY)], ids=["one process", "two"])
def test_a_healthy_service_is_silent(series: Series, tmp_path: Path) -> None:
    assert not complaints(tmp_path, scenario("healthy", series, dict.fromkeys(NAMES, False)))


@pytest.mark.prometheus
def test_every_alert_fires_on_what_it_is_for(tmp_path: Path) -> None:
    sick = [
        scenario(f"{alert}: {case}", replica, {alert: True})
        for alert, cases in SICK.items()
        for case, series in cases.items()
        for replica in (HEALTHY | series, processes(HEALTHY | series, HEALTHY | series))
    ]
    assert not complaints(tmp_path, *sick)


@pytest.mark.prometheus
def test_one_sick_process_of_two_is_enough(tmp_path: Path) -> None:
    sick = [
        scenario(f"{alert}: {case}", processes(HEALTHY, HEALTHY | series), {alert: True})
        for alert in ONE_IS_ENOUGH
        for case, series in SICK[alert].items()
    ]
    assert not complaints(tmp_path, *sick)


@pytest.mark.prometheus
def test_a_process_that_is_gone_has_lost_no_device(tmp_path: Path) -> None:
    gone = {
        series: f"1x60 _x{MINUTES}" for series in HEALTHY if series.startswith("pushforward_backend_info")
    }
    replica = processes(HEALTHY, HEALTHY | gone)
    assert not complaints(tmp_path, scenario("gone", replica, {"PushforwardDeviceLost": False}))


@pytest.mark.prometheus
def test_a_few_odd_rows_are_no_drift(tmp_path: Path) -> None:
    few = histogram(LIVE, FLOW, {"-3": 5, "-2": 5, "-1": 5, "+Inf": 5})
    assert not complaints(tmp_path, scenario("few", HEALTHY | few, {"PushforwardDrift": False}))


@pytest.mark.prometheus
def test_promtool_does_complain_when_an_alert_is_expected_and_silent(tmp_path: Path) -> None:
    assert "got:" in complaints(tmp_path, scenario("wrong", HEALTHY, {"PushforwardDown": True}))


def test_every_alert_is_tested_and_has_a_line_in_the_runbook() -> None:
    assert list(SICK) == NAMES
    headings = re.findall(r"^#+ (\S+)$", RUNBOOK, re.MULTILINE)
    for rule in RULES:
        assert rule["alert"] in headings
        assert rule["annotations"]["runbook"] == f"docs/operating.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
