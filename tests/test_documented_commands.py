"""Commands that the documents show are ones that their scripts take: every option, every key of a recipe."""

import re
import shlex

import pytest

from tests.test_docs import DOCUMENTS, ROOT
from tests.test_starts import starts, takes_a_recipe

LAUNCHERS = ("accelerate", "launch", "torchrun")
OF_LAUNCHERS = ("--group", "--config_file", "--nproc_per_node")
"""Options before the script's name; each has a value."""
WRONG = {True: (["--output-dir", "README.md"], "README.md is a file"), False: (["--no-such"], "arguments: --no-such\n")}
"""What is put behind a command, by whether it reads a recipe, and what is said to it once all before it is right: a
folder that can't be is refused after the recipe is read."""


def commands(text: str, inline: bool = True) -> list[list[str]]:
    """The words of each `uv run SCRIPT.py …` of a Markdown text, from the script's name on. A loop's variable is 1;
    a script's name alone and commands with a gap (`…`) are left out. inline: also those in running text."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    if inline:
        running = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", running)]
    found = []
    for line in lines:
        for command in re.findall(r"(?:^|[ ;(])uv run (.+?)(?=; |$)", re.sub(r" +# .*", "", line)):
            words = shlex.split(re.sub(r"\$\w+", "1", command))
            while words and (words[0] in LAUNCHERS or words[0].startswith("-")):
                words = words[2 if words[0] in OF_LAUNCHERS else 1 :]
            if len(words) > 1 and words[0].endswith(".py") and "…" not in command:
                found.append(words)
    return found


def documented() -> list[list[str]]:
    """Those of all documents, each once. RESULTS files name keys as they were at a commit, but in blocks."""
    every = []
    for name in DOCUMENTS:
        every += commands((ROOT / name).read_text("utf-8"), inline=not name.endswith("RESULTS.md"))
    return [list(words) for words in dict.fromkeys(map(tuple, every))]


def refusals(every: list[list[str]]) -> dict[str, str]:
    """What is said to each command that isn't refused for WRONG alone."""
    answers = {}
    for script, *arguments in every:
        recipe = arguments[arguments.index("--config-path") + 1] if "--config-path" in arguments else None
        if recipe is not None and not (ROOT / recipe).is_file():  # one of the reader's own
            continue
        last, expected = WRONG[takes_a_recipe(script)]
        status, said, _ = starts([(script, [*arguments, *last])])[script]
        if status != 2 or expected not in said:
            answers[shlex.join([script, *arguments])] = said
    return answers


@pytest.mark.slow
def test_every_option_and_key_of_a_documented_command_is_real():
    every = documented()
    assert len(every) >= 40
    assert {"mrl/chat.py", "mrl/convert.py", "evaluation/retention.py"} <= {words[0] for words in every}
    assert refusals(every) == {}


@pytest.mark.slow
def test_an_option_or_a_key_that_is_not_there_is_seen():
    text = "```sh\nuv run mrl/chat.py --model x \\\n  --clii    # talk\n```\n"
    text += "`uv run\nmrl/train.py --set trainer.max_stps=1`"
    every = commands(text)
    assert every == [["mrl/chat.py", "--model", "x", "--clii"], ["mrl/train.py", "--set", "trainer.max_stps=1"]]
    assert len(refusals(every)) == 2


def test_commands_are_taken_out_of_loops_launchers_and_running_text():
    text = "```sh\nfor N in 1 2; do uv run data/a.py --to s_$N; done\n"
    text += "uv run accelerate launch --config_file c.yaml b.py --y\nuv run lm_eval run --tasks x\n```\n"
    text += "See `uv run --group chat mrl/c.py --x 'a b'`, `uv run d.py …` and `uv run e.py`."
    assert commands(text) == [["data/a.py", "--to", "s_1"], ["b.py", "--y"], ["mrl/c.py", "--x", "a b"]]


def test_the_readme_is_for_two_minutes():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
