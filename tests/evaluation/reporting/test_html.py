"""report.html: one file with all that report.md has, and nothing that it would have to fetch."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation.report import open_for_a_person, write_report
from evaluation.reporting.figures import smoothed
from evaluation.reporting.html import html_page, section_html
from evaluation.reporting.reader import read_results
from evaluation.reporting.samples import samples_side_by_side
from tests.evaluation.results_on_disk import put


class Page(HTMLParser):
    """What a page refers to, what its tables hold, and whether each element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.refers += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.refers += [value for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self.open}:
            self.cells.append(data)


def test_a_page_stands_alone_and_has_every_figure(out):
    recall = {"memory_sft": {"1": 0.98, "8": 0.9}, "reset_control": {"1": 0.1}}
    put(out / "retention" / "retention.json", {"recall": recall})
    results = read_results([out])
    write_report(results, out)
    page = Page((out / "report.html").read_text())
    assert page.open == []
    assert [r for r in page.refers if not r.startswith(("#", "data:"))] == []
    markdown = (out / "report.md").read_text()
    rows = [line for line in markdown.splitlines() if line.startswith("|") and "---" not in line]
    cells = [cell.strip().strip("*") for line in rows for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert sorted(page.cells) == sorted(c for c in cells if c)
    text = (out / "report.html").read_text()
    assert text.count("<svg") == markdown.count("![") > 0
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", text).replace("https://matplotlib.org", "")


def test_what_few_read_is_folded_and_ends_with_its_list():
    html = section_html("## Stages\n\n### Everything else that they counted\n\n- a: b 1\n\n### Open\n\n- c\n", Path())
    folded, rest = html.split("</details>")
    assert "<details><summary>Everything else that they counted</summary><ul>" in folded
    assert "a: b 1" in folded
    assert "<h3>Open</h3>" in rest


def test_right_and_wrong_answers_stand_side_by_side_and_as_text(out):
    html = samples_side_by_side(read_results([out]))
    pair = re.search(r'<div class="pair">(.*?)</div>', html, re.DOTALL)
    assert re.findall(r'<article class="(\w+)">', pair[1]) == ["right", "wrong"]
    assert "<dt>wanted</dt><dd>7</dd>" in html


def test_sections_of_others_are_rendered_and_listed_but_bring_no_markup(tmp_path):
    (tmp_path / "x.png").write_bytes(b"picture")
    html = section_html("## A & B stage\n\n| a | b |\n| --- | ---: |\n| <i>x</i> | 1 |\n\n![T](x.png)\n", tmp_path)
    assert '<section id="a-b-stage">' in html
    assert "&lt;i&gt;x&lt;/i&gt;" in html
    assert '<img alt="T" src="data:image/png;base64,cGljdHVyZQ==">' in html
    assert '<a href="#a-b-stage">A &amp; B stage</a>' in html_page("r", [html])


def test_long_curves_become_means_with_their_interval():
    points = [(float(step), float(step % 2)) for step in range(80)]
    means, band = smoothed(points)
    # Pairs of 0 and 1: the mean is a half, the deviation is sqrt(1/2), its error sqrt(1/2)/sqrt(2) = 1/2.
    assert means[:2] == [(0.5, 0.5), (2.5, 0.5)]
    assert band[0] == pytest.approx((0.5, 0.5 - 1.96 / 2, 0.5 + 1.96 / 2))
    assert smoothed(points[:60]) == (points[:60], [])


@pytest.mark.parametrize(("terminal", "screen", "shown"), [(True, ":0", 1), (True, "", 0), (False, ":0", 0)])
def test_a_page_opens_only_for_somebody_at_a_terminal_with_a_screen(tmp_path, monkeypatch, terminal, screen, shown):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", screen)
    open_for_a_person(tmp_path / "report.html")
    assert len(opened) == shown
