import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from analysis_support import CONTRACTS, NOW_US, LogBuilder
from rich.console import Console

from deployments.feedback.analysis.html import render_html
from deployments.feedback.analysis.report import COUNTED, make_report
from deployments.feedback.analysis.svg import Drawing, Scale, nice_ticks
from deployments.feedback.analysis.terminal import print_report
from deployments.feedback.analysis.views import open_views
from deployments.feedback.snapshot import open_snapshot

VOID = {"meta", "br", "hr", "img", "input", "link"}


@pytest.fixture
def log(tmp_path):
    return LogBuilder(tmp_path / "log")


def report_of(log):
    snapshot = open_snapshot(log.write())
    with open_views(snapshot, CONTRACTS) as con:
        return make_report(con, snapshot, now_us=NOW_US)


def busy_log(log):
    for number in range(60):
        outcome = ("pass", "fixed", "retried", "degraded", "blocked", "unvalidated")[number % 6]
        log.answer(
            f"g{number}",
            outcome=outcome,
            quality_score=None if outcome == "unvalidated" else number / 60,
            failed_checks=["language"] if outcome == "degraded" else [],
            settings={"depth": number, "format": "json" if number % 2 else "plain"},
            timings={"generating_ms": 1200.0, "first_release_ms": 20.0},
            prompt_hash=f"prompt {number % 5}",
        )
        log.thumb(f"g{number}", up=number % 3 > 0, source_id=f"rater {number % 7}")
        log.say("rating", f"g{number}", value_num=float(number % 5 + 1))
        log.say("label", f"g{number}", value_str="wrong")
    return log


class Structure(HTMLParser):
    """Fails on a tag that is not closed; notes what would load or run something."""

    def __init__(self):
        super().__init__()
        self.open, self.dangers, self.counts = [], [], {}

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        names = dict(attributes)
        if tag in ("script", "link", "img", "iframe", "object") or any(
            n in ("src", "href", "style") or n.startswith("on") for n in names
        ):
            self.dangers.append((tag, attributes))
        if "data-count" in names:
            self.counts[names["data-count"]] = int(names["data-value"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page):
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    return structure


def test_the_page_is_well_formed_and_loads_and_runs_nothing(log):
    page = render_html(report_of(busy_log(log)))
    assert parse(page).dangers == []
    assert "http" not in page.replace("http-equiv", "")


def test_an_empty_log_has_a_page_that_says_so(log):
    page = render_html(report_of(log))
    parse(page)
    assert "There is nothing to report" in page
    assert not re.search(r"\b(nan|inf|None|undefined)\b", page)


def test_a_log_without_feedback_has_a_page_that_says_so(log):
    log.answer("g1")
    assert "No feedback yet" in render_html(report_of(log))


def test_the_style_sheet_is_the_one_that_the_policy_allows(log):
    page = render_html(report_of(log))
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in page


def test_texts_of_users_never_become_markup(log):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}"
    for number in range(6):
        log.answer(
            f"{evil}{number}",
            model=evil,
            adapter=evil,
            language=evil,
            outcome="degraded",
            failed_checks=[evil],
            settings={evil: evil, "depth": 5},
            prompt=[{"role": "user", "content": evil}],
            answer=evil,
            prompt_hash=evil,
            timings={f"{evil}_ms": 5.0},
        )
        log.thumb(f"{evil}{number}", name=evil, source_id=evil)
        log.say("label", f"{evil}{number}", value_str=evil, name=evil)
        log.say("rating", f"{evil}{number}", value_num=3.0, name=evil)
    page = render_html(report_of(log))
    assert parse(page).dangers == []
    assert "<script" not in page
    assert "{{7*7}}" in page


def test_every_chart_is_well_formed_and_named(log):
    charts = re.findall(r"<svg.*?</svg>", render_html(report_of(busy_log(log))), re.DOTALL)
    assert len(charts) > 10
    for chart in charts:
        root = ET.fromstring(chart)
        assert root.get("aria-label")
        for element in root.iter():
            for name in ("x", "y", "x1", "x2", "cx", "cy", "width", "height", "r"):
                if element.get(name):
                    assert -50 < float(element.get(name)) < 1200


def test_the_page_marks_its_counts_for_machines(log):
    report = report_of(busy_log(log))
    assert parse(render_html(report)).counts == {name: report["counts"][name] for name in COUNTED}


def test_equal_reports_give_equal_pages(log):
    report = report_of(busy_log(log))
    assert render_html(report) == render_html(report)


def test_the_terminal_shows_the_same_numbers_and_no_markup_of_users(log):
    busy_log(log)
    log.answer("odd", model="[red]small[/red]", prompt_hash="prompt 1", outcome="degraded")
    report = report_of(log)
    console = Console(width=100, record=True, force_terminal=False, no_color=True)
    with console.capture() as capture:
        print_report(report, console)
    text = capture.get()
    for name in COUNTED:
        assert f"{name} {report['counts'][name]:,}" in " ".join(text.split())
    assert "[red]small[/red]" in text
    assert "\x1b" not in text


def test_the_terminal_says_when_there_is_nothing(log):
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        print_report(report_of(log), console)
    assert "There is nothing to report" in capture.get()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.5, 1]), (0.71, 0.89, [0.75, 0.8, 0.85]), (0, 0.3, [0, 0.1, 0.2, 0.3]), (5, 5, [5])],
)
def test_ticks_are_round_numbers_within_the_scale(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_scale_without_extent_puts_all_in_its_middle():
    assert Scale(3, 3, 0, 10)(3) == 5


def test_a_drawing_escapes_what_it_is_given():
    drawing = Drawing(10, 10, '"><script>')
    drawing.text(0, 0, "<b>&")
    drawing.circle(1, 1, 1, "dot", '<i>"')
    assert ET.fromstring(drawing.markup()).get("aria-label") == '"><script>'
