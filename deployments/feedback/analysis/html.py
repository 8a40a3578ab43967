"""The report as one HTML file that needs nothing else: no script, no network, light and dark.

Texts of users are escaped by the template engine, and a content security policy that allows one style sheet, by its
hash, stands behind that. The numbers are the report's own; ``data-count`` and ``data-value`` mark those that other
views must agree with.
"""

import base64
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deployments.feedback.analysis import charts, formats
from deployments.feedback.analysis.report import COUNTED

_FOLDER = Path(__file__).resolve().parent
_HEAT_STEPS = 5


def render_html(report: dict[str, Any]) -> str:
    """Return the page for a report of `report.make_report`."""
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    settings = [cell["approval"] for setting in report["by_setting"] for cell in setting["cells"]]
    groups = [cell["approval"] for group in report["by"].values() for cell in group["cells"]]
    return environment.get_template("template.html.j2").render(
        r=report,
        m=report["metrics"],
        counted=COUNTED,
        style=Markup(style),
        style_sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        setting_scale=charts.common_scale(settings),
        group_scale=charts.common_scale(groups),
        share=formats.format_share,
        count=formats.format_count,
        short=formats.shorten,
        score=formats.format_score,
        ms=formats.format_ms,
        heat=_heat,
        **{name: partial(_draw, chart) for name, chart in _CHARTS.items()},
    )


_CHARTS = {
    "time": charts.draw_time,
    "spark": charts.draw_spark,
    "funnel": charts.draw_funnel,
    "outcomes": charts.draw_outcomes,
    "setting_chart": charts.draw_settings,
    "interval_chart": charts.draw_interval,
    "calibration": charts.draw_calibration,
    "drift": charts.draw_drift,
}


def _draw(chart: Any, *arguments: Any) -> Markup:
    # Charts escape what they draw.
    return Markup(chart(*arguments))


def _heat(n: int, total: int) -> str:
    return f"heat-{min(int(n / total * (_HEAT_STEPS + 1)), _HEAT_STEPS) if total else 0}"
