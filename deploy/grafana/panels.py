"""How the dashboard asks and how it looks: words of PromQL, and shapes of panels, that come again and again.

``$model`` is the variable at the top of the page, ``$__rate_interval`` Grafana's own. A replica may be
several processes, whose series differ in a label ``process``; queries sum over it, or take the worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig, VizLegendOptions
from grafana_foundation_sdk.models.common import BigValueColorMode, LegendDisplayMode, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)

PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
MINE: Final = 'model=~"$model"'
LANE: Final = "model, entry_point"

Panel = stat.Panel | timeseries.Panel | heatmap.Panel | table.Panel
Query = prometheus.Dataquery
P = TypeVar("P", stat.Panel, timeseries.Panel, heatmap.Panel, table.Panel)


# Expressions --------------------------------------------------------------------------------------------


def rate(metric: str, *labels: str) -> str:
    """How fast a counter grows, each second."""
    return f"rate({metric}{{{', '.join(labels)}}}[$__rate_interval])"


def total(by: str, what: str) -> str:
    return f"sum by ({by}) ({what})"


def most(by: str, what: str) -> str:
    return f"max by ({by}) ({what})"


def quantile(level: float, by: str, metric: str, *labels: str) -> str:
    """A quantile of a histogram over the last moments."""
    return f"histogram_quantile({level}, {total(f'le, {by}', rate(f'{metric}_bucket', *labels))})"


def share(by: str, part: str, whole: str) -> str:
    """What part of a rate another is, 0 where there is none of it."""
    return f"({total(by, part)} or 0 * {total(by, whole)}) / {total(by, whole)}"


# Queries ------------------------------------------------------------------------------------------------


def query(expr: str, legend: str = "") -> Query:
    return prometheus.Dataquery().expr(expr).legend_format(legend).range().datasource(PROMETHEUS)


def named(by: str) -> str:
    """The legend of series that differ in some labels."""
    return " ".join(f"{{{{{label}}}}}" for label in by.split(", "))


def sums(by: str, what: str) -> Query:
    return query(total(by, what), named(by))


def sums_or_none(by: str, what: str) -> Query:
    """0 rather than nothing, for what has not happened yet."""
    return query(f"{total(by, what)} or vector(0)", named(by))


def largest(by: str, what: str) -> Query:
    return query(most(by, what), named(by))


def middle_and_tail(by: str, metric: str) -> tuple[Query, Query]:
    """The median of a histogram, and what one in a hundred is beyond."""
    p50, p99 = (query(quantile(p, by, metric, MINE), f"{named(by)} p{p * 100:.0f}") for p in (0.5, 0.99))
    return p50, p99


# Panels -------------------------------------------------------------------------------------------------


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


def dashed(shown: timeseries.Panel, pattern: str) -> timeseries.Panel:
    """Lines whose names match are what is compared with, not what is measured."""
    style = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})
    fill = DynamicConfigValue("custom.fillOpacity", 0)
    return shown.override_by_regexp(pattern, [style, fill])


def number(title: str, says: str, *queries: Query, red_from: float | None = None) -> stat.Panel:
    """The last value, on green, or on red from some value on."""
    steps = [Threshold(None, "green")] + ([] if red_from is None else [Threshold(red_from, "red")])
    shown = panel(stat.Panel, title, says, "short", 4, 4)
    shown = shown.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    shown = shown.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return asked(shown if red_from is None else shown.color_mode(BigValueColorMode.BACKGROUND), queries)
