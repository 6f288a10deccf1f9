"""The dashboard, from which the JSON beside it is built: ``python -m deploy.grafana.dashboard``.

Grafana reads ``dashboards/pushforward.json``; change this file and build it again, a test compares the two.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard, heatmap, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataTransformerConfig,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.panels import (
    LANE,
    MINE,
    PROMETHEUS,
    Panel,
    Query,
    asked,
    dashed,
    largest,
    lines,
    middle_and_tail,
    most,
    named,
    number,
    panel,
    query,
    rate,
    share,
    stacked,
    sums,
    sums_or_none,
    total,
)

TARGET: Final = Path(__file__).parent / "dashboards" / "pushforward.json"
ROWS_A_SECOND: Final = "suffix: rows/s"
OUR_PROCESSES: Final = "and on (instance) pushforward_ready"
REQUESTS: Final = "pushforward_requests_total"
REJECTIONS: Final = "pushforward_rejections_total"


def callers() -> list[Panel]:
    return [*_now(), *_traffic()]


def _now() -> list[stat.Panel]:
    restarts = f"{most('instance', 'changes(process_start_time_seconds[1h])')} {OUR_PROCESSES}"
    firing = 'count(ALERTS{alertname=~"Pushforward.*", alertstate="firing"}) or vector(0)'
    running = most("instance, version, python", "pushforward_build_info")
    return [
        _ready(),
        number("Alerts", "That fire now; Prometheus says which.", query(firing), red_from=1),
        number("Model versions", "That answer requests.", largest("instance", "pushforward_models_loaded")),
        number(
            "Models refused",
            "Versions in the artifact folder that are not right; GET /health/ready says why.",
            largest("instance", "pushforward_models_refused"),
            red_from=1,
        ),
        number("Restarts", "In the last hour, by replica.", query(restarts, "{{instance}}"), red_from=3),
        number("Running", "Version and Python.", query(running, "{{version}} on {{python}}")),
    ]


def _ready() -> stat.Panel:
    words = {
        "0": ValueMappingResult(text="not ready", color="red"),
        "1": ValueMappingResult(text="ready", color="green"),
    }
    ready = query("min by (instance) (pushforward_ready)", "{{instance}}")
    shown = number("Ready", "Whether the readiness probe answers 200, by replica.", ready)
    return shown.color_mode(BigValueColorMode.BACKGROUND).mappings([ValueMap(options=words)])


def _traffic() -> list[timeseries.Panel]:
    failed = share("job", rate(REQUESTS, 'status=~"5.."'), rate(REQUESTS))
    full = share("job", rate(REJECTIONS, 'reason="queue_full"'), rate(REQUESTS))
    return [
        stacked(
            lines(
                "Requests",
                "Answered each second, by verb and status; 499 is a caller who hung up.",
                "reqps",
                sums("verb, status", rate(REQUESTS, MINE)),
                width=12,
            )
        ),
        lines(
            "Errors",
            "Part of the requests that were answered 5xx, and that were refused because a queue was full.",
            "percentunit",
            query(failed, "5xx"),
            query(full, "queue full"),
            width=12,
        ),
        lines(
            "Rejections",
            "Requests answered with a reason instead of a result, by its code.",
            "reqps",
            sums_or_none("reason", rate(REJECTIONS)),
            width=12,
        ),
        lines(
            "In flight",
            "Accepted and not yet answered.",
            "short",
            sums("instance", "pushforward_requests_in_flight"),
            width=12,
        ),
        lines(
            "Requests by key",
            "By the names of the keys that callers came with, and status.",
            "reqps",
            sums("key, status", rate("pushforward_key_requests_total")),
            width=12,
        ).no_value("nobody needs a key"),
        lines(
            "Rows by key",
            "That graphs ran for the holders of each key.",
            ROWS_A_SECOND,
            sums("key", rate("pushforward_key_rows_total")),
            width=12,
        ).no_value("nobody needs a key"),
    ]


def stages() -> list[Panel]:
    """What remains is reading, encoding and the event loop."""
    return [
        lines(
            "Whole requests",
            "From the first byte read to the answer written, by verb; a streamed sample lasts as long as its "
            "caller reads.",
            "s",
            *middle_and_tail("verb", "pushforward_request_seconds"),
        ),
        lines(
            "In the queue",
            "How long the rows of one request waited for their first batch.",
            "s",
            *middle_and_tail(LANE, "pushforward_queue_wait_seconds"),
        ),
        lines(
            "On the device", "How long a graph ran.", "s", *middle_and_tail(LANE, "pushforward_run_seconds")
        ),
    ]


def lanes() -> list[Panel]:
    padding = total(LANE, rate("pushforward_padding_rows_total", MINE))
    rows = total(LANE, rate("pushforward_batch_rows_sum", MINE))
    batches = total(LANE, rate("pushforward_batch_rows_count", MINE))
    return [
        lines(
            "Rows that wait",
            "In the queue of each lane.",
            "short",
            sums(LANE, f"pushforward_queue_rows{{{MINE}}}"),
        ),
        lines(
            "How full the queues are",
            "Work that waits, as part of what PUSHFORWARD_QUEUE_MS allows; at 100 % callers get 429.",
            "percentunit",
            largest(LANE, f"pushforward_queue_fullness_ratio{{{MINE}}}"),
        ).max(1),
        lines(
            "Time of the device",
            "Seconds of running in each second, by lane.",
            "percentunit",
            sums(LANE, rate("pushforward_run_seconds_sum", MINE)),
        ),
        _batch_sizes(),
        lines("Mean batch", "Rows in a batch.", "short", query(f"{rows} / {batches}", named(LANE))),
        lines(
            "Padding",
            "Part of the computed rows that only filled a bucket.",
            "percentunit",
            query(f"{padding} / ({padding} + {rows})", named(LANE)),
        ),
        lines(
            "Dropped rows",
            "That left the queue without an answer, by reason.",
            ROWS_A_SECOND,
            sums_or_none("reason", rate("pushforward_dropped_rows_total", MINE)),
            width=12,
        ),
        lines(
            "Oldest batch",
            "How long it has been with the device: one that stays there is a device that hangs.",
            "s",
            largest("instance", "pushforward_oldest_batch_seconds"),
            width=12,
        ),
    ]


def _batch_sizes() -> heatmap.Panel:
    sizes = sums("le", rate("pushforward_batch_rows_bucket", MINE)).format(PromQueryFormat.HEATMAP)
    shown = panel(heatmap.Panel, "Batch sizes", "Rows in a batch, padding left out.", "short", 8, 8)
    shown = shown.calculate(False).y_axis(heatmap.YAxisConfig().axis_label("rows"))
    shown = shown.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues"))
    return asked(shown, (sizes,))


def health() -> list[Panel]:
    scored = rate("pushforward_loglik_rows_total", MINE)
    outside = rate("pushforward_loglik_rows_total", MINE, 'status="out_of_support"')
    return [
        *_likelihoods(),
        lines(
            "Rows by status",
            "Rows whose log-likelihood was asked for: ok, beyond every held-out score, outside the support, "
            "or no finite number.",
            ROWS_A_SECOND,
            sums("model, status", scored),
            width=12,
        ),
        lines(
            "Outside the support",
            "Part of the rows that the model gives no density: wrong units, or a broken pipeline.",
            "percentunit",
            query(share("model", outside, scored), "{{model}}"),
            width=12,
        ),
    ]


def _likelihoods() -> list[timeseries.Panel]:
    """Live rows beside held-out ones; of those every process has the same histogram."""
    live, held_out = "pushforward_log_likelihood_nats", "pushforward_held_out_log_likelihood_nats"
    model = "model, version"
    ours = total(f"{model}, le", f"increase({live}_bucket{{{MINE}}}[1h])")
    all_ours = total(model, f'increase({live}_bucket{{{MINE}, le="+Inf"}}[1h])')
    theirs = most(f"{model}, le", f"{held_out}_bucket{{{MINE}}}")
    all_theirs = most(model, f'{held_out}_bucket{{{MINE}, le="+Inf"}}')
    per_model = f"/ on ({model}) group_left ()"
    distance = most(model, f"abs({ours} {per_model} {all_ours} - {theirs} {per_model} {all_theirs})")
    quantiles = lines(
        "Log-likelihood of live rows, and of held-out ones",
        "Quantiles over the last hour, in nats; dashed, those of rows that training never saw. Live "
        "rows that lie lower are not what the model has learnt.",
        "suffix: nats",
        *_quantiles(ours, f"{named(model)} live"),
        *_quantiles(theirs, f"{named(model)} held-out"),
        width=16,
    )
    distances = lines(
        "Distance from held-out rows",
        "The largest difference between the two distributions (Kolmogorov and Smirnov), over the last "
        "hour: 0 is the same, 1 has nothing in common.",
        "short",
        query(distance, named(model)),
    )
    return [dashed(quantiles, ".*held-out.*"), distances.min(0).max(1)]


def _quantiles(buckets: str, legend: str) -> list[Query]:
    levels = {0.05: "p5", 0.5: "p50", 0.95: "p95"}
    return [query(f"histogram_quantile({p}, {buckets})", f"{legend} {name}") for p, name in levels.items()]


def around() -> list[Panel]:
    hit, miss, trouble = (f'result=~"{words}"' for words in ("hit", "hit|miss", "error|skipped"))
    lookups = "pushforward_cache_lookups_total"
    memory = f"{total('instance', 'process_resident_memory_bytes')} {OUR_PROCESSES}"
    cores = f"{total('instance', rate('process_cpu_seconds_total'))} {OUR_PROCESSES}"
    return [
        lines(
            "Cache hits",
            "Part of the keys that were asked for and found, by tier.",
            "percentunit",
            query(share("tier", rate(lookups, hit), rate(lookups, miss)), "{{tier}}"),
            width=6,
        ),
        lines(
            "Redis",
            "Whether the breaker is open, and keys each second that failed or were not asked for.",
            "short",
            query(most("instance", "pushforward_redis_breaker_open"), "breaker open {{instance}}"),
            sums_or_none("tier, result", rate(lookups, trouble)),
            width=6,
        ),
        lines("Memory", "Resident, by replica.", "bytes", query(memory, "{{instance}}"), width=6),
        lines("Processor", "Cores in use, by replica.", "short", query(cores, "{{instance}}"), width=6),
    ]


def backends() -> list[Panel]:
    says = "The provider that really runs each entry point."
    providers = panel(table.Panel, "Backends", says, "short", 24, 8)
    info = most("instance, model, version, entry_point, provider", f"pushforward_backend_info{{{MINE}}}")
    hidden = dict.fromkeys(("Time", "Value"), True)
    tidy = DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    asks = query(f"{info} == 1").format(PromQueryFormat.TABLE).instant()
    return [asked(providers, (asks,)).with_transformation(tidy), *gpus()]


def gpus() -> list[Panel]:
    """Empty where no model runs on a GPU, and they say so."""
    shown = (
        lines(
            "GPU busy",
            "Part of the time in which it computed anything.",
            "percentunit",
            _of_gpu("busy_ratio"),
        ),
        lines(
            "GPU memory",
            "In use, by this process or another, and dashed what there is.",
            "bytes",
            _of_gpu("memory_used_bytes"),
            _of_gpu("memory_bytes", " in all"),
        ),
        lines(
            "GPU power and temperature",
            "Watts of the board, and degrees Celsius of the chip.",
            "short",
            _of_gpu("power_watts", " W"),
            _of_gpu("temperature_celsius", " °C"),
        ),
    )
    return [dashed(each, ".* in all").no_value("no model runs on a GPU") for each in shown]


def _of_gpu(reading: str, what: str = "") -> Query:
    """Every process reads the same GPUs."""
    return query(
        most("instance, gpu", f"pushforward_gpu_{reading}"), f"{{{{instance}}}} GPU {{{{gpu}}}}{what}"
    )


# The whole ----------------------------------------------------------------------------------------------

PARTS: Final = {
    "What callers see": callers,
    "Latency by stage": stages,
    "Queues and batches": lanes,
    "The models' own health": health,
    "Cache and process": around,
    "Backends and GPUs": backends,
}


def built() -> str:
    """The dashboard as Grafana reads it."""
    whole = (
        dashboard.Dashboard("Pushforward")
        .uid("pushforward")
        .tags(["pushforward"])
        .readonly()
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(_models())
    )
    numbers = count(1)
    for title, panels in PARTS.items():
        whole = whole.with_row(dashboard.Row(title).id(next(numbers)))
        for each in panels():
            whole = whole.with_panel(each.id(next(numbers)))
    return json.dumps(whole.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _models() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("model")
        .label("Model")
        .datasource(PROMETHEUS)
        .query({"query": "label_values(pushforward_backend_info, model)", "refId": "model"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all", selected=True))
    )


if __name__ == "__main__":
    TARGET.write_text(built())
