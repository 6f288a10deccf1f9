"""The dashboard, from which the JSON beside it is built: ``python -m deploy.grafana.dashboard``.

Grafana reads ``dashboards/pushforward.json``; change this file and build it again, a test compares the two.
``$model`` is the variable at the top of the page, ``$__rate_interval`` Grafana's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig, VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, LegendDisplayMode, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TARGET: Final = Path(__file__).parent / "dashboards" / "pushforward.json"
PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
GPU: Final = "Backends and GPUs"  # the row of it; those of its panels that start with GPU need one
ROWS_A_SECOND: Final = "suffix: rows/s"
MINE: Final = 'model=~"$model"'
OUR_PROCESSES: Final = "and on (instance) pushforward_ready"

Panel = stat.Panel | timeseries.Panel | heatmap.Panel | table.Panel
Query = prometheus.Dataquery
P = TypeVar("P", stat.Panel, timeseries.Panel, heatmap.Panel, table.Panel)


# Words of PromQL that come again and again -------------------------------------------------------------


def rate(metric: str, *labels: str) -> str:
    """How fast a counter grows, each second."""
    return f"rate({metric}{{{', '.join(labels)}}}[$__rate_interval])"


def total(by: str, what: str) -> str:
    return f"sum by ({by}) ({what})"


def quantile(level: float, by: str, metric: str, *labels: str) -> str:
    """A quantile of a histogram over the last moments."""
    return f"histogram_quantile({level}, {total(f'le, {by}', rate(f'{metric}_bucket', *labels))})"


def share(by: str, part: str, whole: str) -> str:
    """What part of a rate another is, 0 where there is none of it."""
    return f"({total(by, part)} or 0 * {total(by, whole)}) / {total(by, whole)}"


# Panels -------------------------------------------------------------------------------------------------


def query(expr: str, legend: str = "") -> Query:
    return prometheus.Dataquery().expr(expr).legend_format(legend).range().datasource(PROMETHEUS)


def panel(of: Callable[[], P], title: str, says: str, unit: str, width: int, height: int) -> P:
    shown = of().title(title).description(says).unit(unit).datasource(PROMETHEUS)
    return shown.span(width).height(height)


def asked(shown: P, queries: tuple[Query, ...]) -> P:
    for place, each in enumerate(queries):
        shown = shown.with_target(each.ref_id(chr(ord("A") + place)))
    return shown


def lines(title: str, says: str, unit: str, *queries: Query, width: int = 8) -> timeseries.Panel:
    shown = panel(timeseries.Panel, title, says, unit, width, 8)
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    return asked(shown.fill_opacity(8).legend(legend), queries)


def stacked(shown: timeseries.Panel) -> timeseries.Panel:
    return shown.fill_opacity(30).stacking(StackingConfig().mode(StackingMode.NORMAL))


def number(title: str, says: str, *queries: Query, red_from: float | None = None) -> stat.Panel:
    """The last value, on green, or on red from some value on."""
    steps = [Threshold(None, "green")] + ([] if red_from is None else [Threshold(red_from, "red")])
    shown = panel(stat.Panel, title, says, "short", 4, 4)
    shown = shown.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    shown = shown.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return asked(shown if red_from is None else shown.color_mode(BigValueColorMode.BACKGROUND), queries)


def dashed(shown: timeseries.Panel, pattern: str) -> timeseries.Panel:
    """Lines whose names match are what is compared with, not what is measured."""
    style = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})
    fill = DynamicConfigValue("custom.fillOpacity", 0)
    return shown.override_by_regexp(pattern, [style, fill])


# Rows of panels -----------------------------------------------------------------------------------------


def callers() -> list[Panel]:
    ready = number(
        "Ready", "Whether the readiness probe answers 200, by replica.", query("pushforward_ready")
    )
    ready = ready.color_mode(BigValueColorMode.BACKGROUND).mappings(
        [
            ValueMap(
                options={
                    "0": ValueMappingResult(text="not ready", color="red"),
                    "1": ValueMappingResult(text="ready", color="green"),
                }
            )
        ]
    )
    restarts = f"changes(process_start_time_seconds[1h]) {OUR_PROCESSES}"
    firing = 'count(ALERTS{alertname=~"Pushforward.*", alertstate="firing"}) or vector(0)'
    return [
        ready,
        number("Alerts", "That fire now; Prometheus says which.", query(firing), red_from=1),
        number("Model versions", "That answer requests.", query("pushforward_models_loaded", "{{instance}}")),
        number(
            "Models refused",
            "Versions in the artifact folder that are not right; GET /health/ready says why.",
            query("pushforward_models_refused", "{{instance}}"),
            red_from=1,
        ),
        number("Restarts", "In the last hour, by replica.", query(restarts, "{{instance}}"), red_from=3),
        number(
            "Running", "Version and Python.", query("pushforward_build_info", "{{version}} on {{python}}")
        ),
        stacked(
            lines(
                "Requests",
                "Answered each second, by verb and status; 499 is a caller who hung up.",
                "reqps",
                query(total("verb, status", rate("pushforward_requests_total", MINE)), "{{verb}} {{status}}"),
                width=12,
            )
        ),
        lines(
            "Errors",
            "Part of the requests that were answered 5xx, and that were refused because a queue was full.",
            "percentunit",
            query(
                share(
                    "job",
                    rate("pushforward_requests_total", 'status=~"5.."'),
                    rate("pushforward_requests_total"),
                ),
                "5xx",
            ),
            query(
                share(
                    "job",
                    rate("pushforward_rejections_total", 'reason="queue_full"'),
                    rate("pushforward_requests_total"),
                ),
                "queue full",
            ),
            width=12,
        ),
        lines(
            "Rejections",
            "Requests answered with a reason instead of a result, by its code.",
            "reqps",
            query(f"{total('reason', rate('pushforward_rejections_total'))} or vector(0)", "{{reason}}"),
            width=12,
        ),
        lines(
            "In flight",
            "Accepted and not yet answered.",
            "short",
            query("pushforward_requests_in_flight", "{{instance}}"),
            width=12,
        ),
        lines(
            "Requests by key",
            "By the names of the keys that callers came with, and status.",
            "reqps",
            query(total("key, status", rate("pushforward_key_requests_total")), "{{key}} {{status}}"),
            width=12,
        ).no_value("nobody needs a key"),
        lines(
            "Rows by key",
            "That graphs ran for the holders of each key.",
            ROWS_A_SECOND,
            query(total("key", rate("pushforward_key_rows_total")), "{{key}}"),
            width=12,
        ).no_value("nobody needs a key"),
    ]


def stages() -> list[Panel]:
    request, waited, run = (
        f"pushforward_{name}_seconds" for name in ("request", "queue_wait", "run")
    )  # what remains is reading, encoding and the event loop
    return [
        lines(
            "Whole requests",
            "From the first byte read to the answer written, by verb; a streamed sample lasts as long as its "
            "caller reads.",
            "s",
            query(quantile(0.5, "verb", request, MINE), "{{verb}} p50"),
            query(quantile(0.99, "verb", request, MINE), "{{verb}} p99"),
        ),
        lines(
            "In the queue",
            "How long the rows of one request waited for their first batch.",
            "s",
            query(quantile(0.5, "model, entry_point", waited, MINE), "{{model}} {{entry_point}} p50"),
            query(quantile(0.99, "model, entry_point", waited, MINE), "{{model}} {{entry_point}} p99"),
        ),
        lines(
            "On the device",
            "How long a graph ran.",
            "s",
            query(quantile(0.5, "model, entry_point", run, MINE), "{{model}} {{entry_point}} p50"),
            query(quantile(0.99, "model, entry_point", run, MINE), "{{model}} {{entry_point}} p99"),
        ),
    ]


def lanes() -> list[Panel]:
    lane, named = "model, entry_point", "{{model}} {{entry_point}}"
    padding, rows = rate("pushforward_padding_rows_total", MINE), rate("pushforward_batch_rows_sum", MINE)
    sizes = total("le", rate("pushforward_batch_rows_bucket", MINE))
    batches = panel(heatmap.Panel, "Batch sizes", "Rows in a batch, padding left out.", "short", 8, 8)
    batches = batches.calculate(False).y_axis(heatmap.YAxisConfig().axis_label("rows"))
    batches = batches.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues"))
    return [
        lines(
            "Rows that wait",
            "In the queue of each lane.",
            "short",
            query(total(lane, f"pushforward_queue_rows{{{MINE}}}"), named),
        ),
        lines(
            "How full the queues are",
            "Work that waits, as part of what PUSHFORWARD_QUEUE_MS allows; at 100 % callers get 429.",
            "percentunit",
            query(f"max by ({lane}) (pushforward_queue_fullness_ratio{{{MINE}}})", named),
        ).max(1),
        lines(
            "Time of the device",
            "Seconds of running in each second, by lane.",
            "percentunit",
            query(total(lane, rate("pushforward_run_seconds_sum", MINE)), named),
        ),
        asked(batches, (query(sizes, "{{le}}").format(PromQueryFormat.HEATMAP),)),
        lines(
            "Mean batch",
            "Rows in a batch.",
            "short",
            query(
                f"{total(lane, rows)} / {total(lane, rate('pushforward_batch_rows_count', MINE))}",
                named,
            ),
        ),
        lines(
            "Padding",
            "Part of the computed rows that only filled a bucket.",
            "percentunit",
            query(f"{total(lane, padding)} / ({total(lane, padding)} + {total(lane, rows)})", named),
        ),
        lines(
            "Dropped rows",
            "That left the queue without an answer, by reason.",
            ROWS_A_SECOND,
            query(
                f"{total('reason', rate('pushforward_dropped_rows_total', MINE))} or vector(0)", "{{reason}}"
            ),
            width=12,
        ),
        lines(
            "Oldest batch",
            "How long it has been with the device: one that stays there is a device that hangs.",
            "s",
            query("max by (instance) (pushforward_oldest_batch_seconds)", "{{instance}}"),
            width=12,
        ),
    ]


def health() -> list[Panel]:
    live, held_out = "pushforward_log_likelihood_nats", "pushforward_held_out_log_likelihood_nats"
    model, named = "model, version", "{{model}} {{version}}"
    ours = f"sum by ({model}, le) (increase({live}_bucket{{{MINE}}}[1h]))"
    all_ours = f'sum by ({model}) (increase({live}_bucket{{{MINE}, le="+Inf"}}[1h]))'
    theirs = f"max by ({model}, le) ({held_out}_bucket{{{MINE}}})"
    all_theirs = f'max by ({model}) ({held_out}_bucket{{{MINE}, le="+Inf"}})'
    per_model = f"/ on ({model}) group_left ()"
    distance = f"max by ({model}) (abs({ours} {per_model} {all_ours} - {theirs} {per_model} {all_theirs}))"
    scored = rate("pushforward_loglik_rows_total", MINE)
    outside = rate("pushforward_loglik_rows_total", MINE, 'status="out_of_support"')
    of_live = (
        query(f"histogram_quantile({level}, {ours})", f"{named} live p{level:.0%}".replace("%", ""))
        for level in (0.05, 0.5, 0.95)
    )
    of_held_out = (
        query(f"histogram_quantile({level}, {theirs})", f"{named} held-out p{level:.0%}".replace("%", ""))
        for level in (0.05, 0.5, 0.95)
    )
    return [
        dashed(
            lines(
                "Log-likelihood of live rows, and of held-out ones",
                "Quantiles over the last hour, in nats; dashed, those of rows that training never saw. Live "
                "rows that lie lower are not what the model has learnt.",
                "suffix: nats",
                *of_live,
                *of_held_out,
                width=16,
            ),
            ".*held-out.*",
        ),
        lines(
            "Distance from held-out rows",
            "The largest difference between the two distributions (Kolmogorov and Smirnov), over the last "
            "hour: 0 is the same, 1 has nothing in common.",
            "short",
            query(distance, named),
        )
        .min(0)
        .max(1),
        lines(
            "Rows by status",
            "Rows whose log-likelihood was asked for: ok, beyond every held-out score, outside the support, "
            "or no finite number.",
            ROWS_A_SECOND,
            query(total("model, status", scored), "{{model}} {{status}}"),
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


def around() -> list[Panel]:
    hit, miss, trouble = (f'result=~"{words}"' for words in ("hit", "hit|miss", "error|skipped"))
    lookups = "pushforward_cache_lookups_total"
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
            query("max by (instance) (pushforward_redis_breaker_open)", "breaker open {{instance}}"),
            query(f"{total('tier, result', rate(lookups, trouble))} or vector(0)", "{{tier}} {{result}}"),
            width=6,
        ),
        lines(
            "Memory",
            "Resident, by replica.",
            "bytes",
            query(f"process_resident_memory_bytes {OUR_PROCESSES}", "{{instance}}"),
            width=6,
        ),
        lines(
            "Processor",
            "Cores in use, by replica.",
            "short",
            query(f"{rate('process_cpu_seconds_total')} {OUR_PROCESSES}", "{{instance}}"),
            width=6,
        ),
    ]


def backends() -> list[Panel]:
    says = "The provider that really runs each entry point."
    providers = panel(table.Panel, "Backends", says, "short", 24, 8)
    info = query(f"pushforward_backend_info{{{MINE}}} == 1").format(PromQueryFormat.TABLE).instant()
    hidden = dict.fromkeys(("Time", "Value", "__name__", "job"), True)
    tidy = DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    return [asked(providers, (info,)).with_transformation(tidy), *gpus()]


def gpus() -> list[Panel]:
    """Empty where no model runs on a GPU, and they say so."""
    named = "{{instance}} GPU {{gpu}}"
    used, there = "pushforward_gpu_memory_used_bytes", "pushforward_gpu_memory_bytes"
    shown = (
        lines(
            "GPU busy",
            "Part of the time in which it computed anything.",
            "percentunit",
            query("pushforward_gpu_busy_ratio", named),
        ),
        lines(
            "GPU memory",
            "In use, by this process or another, and dashed what there is.",
            "bytes",
            query(used, named),
            query(there, f"{named} in all"),
        ),
        lines(
            "GPU power and temperature",
            "Watts of the board, and degrees Celsius of the chip.",
            "short",
            query("pushforward_gpu_power_watts", f"{named} W"),
            query("pushforward_gpu_temperature_celsius", f"{named} °C"),
        ),
    )
    return [dashed(each, ".* in all").no_value("no model runs on a GPU") for each in shown]


# The whole ----------------------------------------------------------------------------------------------

PARTS: Final = {
    "What callers see": callers,
    "Latency by stage": stages,
    "Queues and batches": lanes,
    "The models' own health": health,
    "Cache and process": around,
    GPU: backends,
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
