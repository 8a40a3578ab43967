"""The report in a terminal: the same numbers as the HTML file, as tables. No colours where NO_COLOR is set."""

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.feedback.analysis.formats import format_count, format_ms, format_score, format_share, shorten
from deployments.feedback.analysis.report import COUNTED

MAX_ROWS = 8
"""Of each breakdown; HTML and JSON have more."""
_BAR_CELLS = 24


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print the report, the four success metrics first and what needs attention last."""
    period = report["period"]
    who = f"tenant {period['tenant']}" if period["tenant"] else "all tenants"
    console.print(
        f"[bold]What feedback says[/]  {period['first_row'] or '-'} to {period['last_row'] or '-'}, {escape(who)}"
    )
    _print_metrics(report, console)
    _print_counts(report, console)
    _print_funnel(report, console)
    for name, group in report["by"].items():
        # One value of everything says nothing that the metrics do not.
        if len(group["cells"]) > 1:
            _print_cells(f"by {name.replace('_', ' ')}", group["cells"], console)
    for setting in report["by_setting"]:
        if len([cell for cell in setting["cells"] if cell["served"]]) > 1:
            _print_cells(f"by {setting['name']}", setting["cells"], console)
    _print_time(report, console)
    _print_agreement(report, console)
    _print_drift(report, console)
    _print_prompts(report, console)
    for problem in report["metrics"]["integration_reliability"]["problems"]:
        console.print(f"[red]problem[/] {escape(problem)}")
    if not report["counts"]["log"]:
        console.print("There is nothing to report: the log has no rows in this period. Widen it: --since all.")
    elif not report["counts"]["feedback"]:
        console.print("No feedback yet: each answer carries a feedback_token; send it with POST /v1/feedback.")


def _print_metrics(report: dict[str, Any], console: Console) -> None:
    metrics = report["metrics"]
    collection, reliability = metrics["feedback_collection"], metrics["integration_reliability"]
    score, approval = metrics["response_quality"]["score"], report["approval"]["all"]
    times = metrics["system_performance"]["percentiles_ms"]
    table = _table("success metric", "value", "95% interval", "of")
    interval = f"{format_score(score['low'])} to {format_score(score['high'])}"
    table.add_row("quality: score", format_score(score["mean"]), interval, f"{score['n']:,} answers")
    table.add_row("quality: approval", *_share(approval), f"{approval['n']:,} thumbs")
    for name, cell in (("any signal", collection["any"]), ("explicit", collection["explicit"])):
        table.add_row(f"collection: {name}", *_share(cell), f"{cell['n']:,} answers")
    for name, stage in (("on disk", "total_ms"), ("first text", "first_release_ms")):
        found = times.get(stage, {"p50": None, "p95": None, "n": 0})
        ends = f"p95 {format_ms(found['p95'])}"
        table.add_row(f"performance: {name}, p50", format_ms(found["p50"]), ends, f"{found['n']:,} sampled")
    for name, of in (("delivered", "answers"), ("joined", "signals")):
        table.add_row(f"reliability: {name}", *_share(reliability[name], 2), f"{reliability[name]['n']:,} {of}")
    console.print(table, "")


def _print_counts(report: dict[str, Any], console: Console) -> None:
    log = report["metrics"]["integration_reliability"]["log"]
    counts = ", ".join(f"{name} {format_count(report['counts'][name])}" for name in COUNTED)
    console.print(f"counts: {counts}", highlight=False)
    console.print(
        f"log: {format_count(log['duplicates'])} repeats left out, {log['corrupt_segments']} corrupt segments, "
        f"{log['quarantined']} in quarantine, {log['unsealed_segments']} unsealed",
        highlight=False,
    )


def _print_funnel(report: dict[str, Any], console: Console) -> None:
    table = _table("stage", "n", title="funnel")
    table.add_column("")
    stages = report["funnel"]["stages"]
    widest = {unit: max(s["n"] for s in stages if s["unit"] == unit) or 1 for unit in {s["unit"] for s in stages}}
    for stage in stages:
        bar = "█" * round(_BAR_CELLS * stage["n"] / widest[stage["unit"]])
        table.add_row(stage["stage"], f"{format_count(stage['n'])} {stage['unit']}", bar)
    console.print(table, "")
    not_used = ", ".join(f"{name} {format_count(n)}" for name, n in report["funnel"]["not_used"].items())
    console.print(f"not used: {not_used}", highlight=False)


def _print_cells(title: str, cells: Iterable[dict[str, Any]], console: Console) -> None:
    table = _table("value", "answers", "quality", "approval", "95% interval", "thumbs", title=title)
    cells = list(cells)
    for cell in cells[:MAX_ROWS]:
        approval = cell["approval"]
        table.add_row(
            escape(shorten(cell["value"], 40)),
            format_count(cell["served"]),
            format_score(cell["quality"]["mean"]),
            *_share(approval),
            format_count(approval["n"]),
            style="dim" if approval["small"] else None,
        )
    if len(cells) > MAX_ROWS:
        table.caption = f"and {len(cells) - MAX_ROWS} more"
    console.print(table, "")


def _print_time(report: dict[str, Any], console: Console) -> None:
    points = report["time"]
    if len(points) < 2:
        return
    shown = points[-MAX_ROWS:]
    cells = [{"value": point["start"][:16].replace("T", " "), **point} for point in shown]
    _print_cells(f"by {report['period']['bucket']}, the last {len(shown)} of {len(points)}", cells, console)


def _print_agreement(report: dict[str, Any], console: Console) -> None:
    agreement = report["agreement"]
    if not agreement["n"]:
        return
    table = _table("", "passed", "failed", title="thumbs against validators")
    for row in ("liked", "disliked"):
        found = agreement["confusion"][row]
        table.add_row(row, format_count(found["passed"]), format_count(found["failed"]))
    console.print(table, "")
    kappa, error = agreement["kappa"], report["calibration"]["expected_calibration_error"]
    told = "-" if kappa["value"] is None else f"{kappa['value']:.2f} ({kappa['low']:.2f} to {kappa['high']:.2f})"
    console.print(
        f"Cohen's kappa {told}; agreement {format_share(agreement['agreement']['share'])}; "
        f"expected calibration error of the score {format_score(error)}",
        highlight=False,
    )


def _print_drift(report: dict[str, Any], console: Console) -> None:
    drift = report["drift"]
    items = [item for item in drift["items"] if item["psi"] is not None][:MAX_ROWS]
    if not items:
        return
    table = _table("what", "index", "by chance up to", "", title="drift (population stability index)")
    for item in items:
        large, notable = item["psi"] >= drift["large"], item["psi"] >= drift["notable"]
        verdict = "[red]large[/]" if large else "[yellow]look[/]" if notable else ""
        table.add_row(escape(item["name"]), f"{item['psi']:.3f}", f"{item['by_chance']:.3f}", verdict)
    console.print(table, "")


def _print_prompts(report: dict[str, Any], console: Console) -> None:
    if not report["prompts"]:
        return
    table = _table("prompt", "answers", "in trouble", "failed", "disliked", title="prompts that go wrong")
    for prompt in report["prompts"][:MAX_ROWS]:
        table.add_row(
            escape(shorten(prompt["prompt_excerpt"] or prompt["prompt_hash"], 60)),
            format_count(prompt["served"]),
            format_share(prompt["trouble"]["share"]),
            format_share(prompt["failed"]["share"]),
            format_share(prompt["disliked"]["share"]),
        )
    console.print(table, "")


def _table(*columns: str, title: str | None = None) -> Table:
    """The first column is text, all others are numbers."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=position > 0)
    return table


def _share(cell: dict[str, Any], digits: int = 1) -> tuple[str, str]:
    return (
        format_share(cell["share"], digits),
        f"{format_share(cell['low'], digits)} to {format_share(cell['high'], digits)}",
    )
