"""The page in a real headless browser, and its handlers without one. Skipped where Gradio, Playwright or a browser is
missing: `uv sync --group browser`, and a Chromium (`apt-get install chromium`)."""

import re
import shutil
from pathlib import Path

import pytest

from mrl.talk.page import opened
from mrl.talk.pictures import curves, heat_map, side_by_side, word
from mrl.talk.session import Comparison
from mrl.talk.world import World

gradio = pytest.importorskip("gradio", reason="Gradio isn't installed: uv sync --group browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed: uv sync --group browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FACTS = ("Ann has the cat .", "Bob has the dog .", "what has Ann")


@pytest.fixture
def handlers(speaker, tmp_path):
    from mrl.talk.handlers import Handlers

    return Handlers(speaker, "tiny", tmp_path)


def told(handlers, tab: str, *messages: str) -> None:
    for message in messages:
        list(handlers.ask(tab, message, "answer"))


def test_two_tabs_have_dialogues_of_their_own(handlers):
    told(handlers, "one", *FACTS)
    told(handlers, "two", FACTS[0])
    assert [turn.query for turn in handlers.sessions.of("one").turns] == list(FACTS)
    assert [turn.query for turn in handlers.sessions.of("two").turns] == [FACTS[0]]
    handlers.renew("one")
    assert not handlers.sessions.of("one").turns
    assert handlers.sessions.of("two").turns


def test_what_is_refused_stays_typed_and_is_a_word(handlers):
    told(handlers, "one", FACTS[0])
    (typed, shown, said, *_) = list(handlers.ask("one", "cat " * 30, "answer"))[-1]
    assert typed == "cat " * 30
    assert len(shown) == 2
    assert "30 tokens; 16 fit" in said
    assert "refused" in said
    broken = handlers.folder / "broken.safetensors"
    broken.write_bytes(b"nonsense")
    assert "broken.safetensors can&#x27;t be read as a saved dialogue" in handlers.load("one", str(broken))[1]
    assert "whole number" in handlers.dialogue("one", str(broken), 0)[1]
    assert "nothing was said yet" in handlers.remove("two", None)[1]
    assert len(handlers.sessions.of("one").turns) == 1


def test_words_without_a_token_are_said(handlers):
    said = list(handlers.ask("one", "Ann has the zebra", "answer"))[-1][2]
    assert "no token for: zebra" in said


def test_a_thought_is_a_folded_message(handlers, speaker):
    from mrl.talk.handlers import messages

    session = handlers.sessions.of("one")
    session.replay([("what has Ann", speaker.read([7, 26, 6, 19, 3]), None)])
    _, thought, answer = messages(session)
    assert thought["metadata"] == {"title": "Thought", "status": "done"}
    assert (thought["content"], answer["content"]) == ("why", "cat")


def test_what_people_type_is_no_markup_in_the_pictures():
    comparison = Comparison(1, "<img src=x>", "<b>", "a & b")
    for text in (side_by_side("<t>", ("then", "now"), [comparison]), word("<script>")):
        assert not re.search(r"<(img|b|t|script)>", text)
    import torch

    drawn = heat_map(torch.tensor([[0.0, 0.5], [1.0, 0.25]]), ["<a>", "b"], "<n>")
    assert re.findall(r'fill-opacity="([\d.]+)"', drawn) == ["0.000", "0.500", "1.000", "0.250"]
    assert "<a>" not in drawn
    assert curves({"a": [1.0, None, 2.0], "b": [None, None, 4.0]}, "ms", "n").count("<circle") == 3


@pytest.fixture
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def say(page, message: str, turns: int) -> None:
    page.fill("#typed textarea", message)
    page.press("#typed textarea", "Enter")
    page.wait_for_selector(f"#memory h4:text-is('Turn {turns} moved')")


def upload(page, place: str, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(place).click()
    chooser.value.set_files(file)


@pytest.mark.slow
def test_a_person_tells_asks_resets_saves_loads_and_comes_back(browser, speaker, tmp_path):
    world = World("A world of pets.", ("Cid has the fox .",))
    with opened(speaker, "answer", world, "tiny") as (_, address):
        assert address.startswith("http://127.0.0.1:")
        page = browser.new_page(accept_downloads=True)
        elsewhere: list[str] = []
        page.on(
            "request", lambda r: elsewhere.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else 0
        )
        page.goto(address)
        for turns, message in enumerate(FACTS, 1):
            say(page, message, turns)
        assert page.locator("#memory svg").count() == 5
        said = page.locator("#dialogue").inner_text()
        page.click("text=Same question, memory reset")
        page.wait_for_selector("#compared td:has-text('what has Ann')")

        with page.expect_download() as download:
            page.click("button:text-is('Save')")
        saved = tmp_path / "talk.safetensors"
        download.value.save_as(saved)

        page.reload()
        page.wait_for_selector("#memory h4:text-is('Turn 3 moved')")
        assert page.locator("#dialogue").inner_text() == said

        other = browser.new_page()  # a context of its own: another browser
        other.goto(address)
        other.wait_for_selector("text=what it does to the memory shows here")
        other.click("text=Cid has the fox .")
        other.wait_for_function("document.querySelector('#typed textarea').value === 'Cid has the fox .'")
        other.press("#typed textarea", "Enter")
        other.wait_for_selector("#memory h4:text-is('Turn 1 moved')")

        page.click("text=Take this turn out of the past")
        page.wait_for_selector("text=Turn 3 is out of the past")
        page.click("text=Undo last turn")
        page.wait_for_selector("text=Taken back: Bob has the dog .")
        (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
        upload(page, "#load", tmp_path / "broken.safetensors")
        page.wait_for_selector(".refused:has-text('broken.safetensors')")
        assert page.locator("#memory h4").first.inner_text() == "Turn 1 moved"
        upload(page, "#load", saved)
        page.wait_for_selector("#memory h4:text-is('Turn 3 moved')")
        assert page.locator("#dialogue").inner_text() == said
        assert elsewhere == []
