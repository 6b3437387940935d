"""Two sides of answers compared from the command line, by hand."""

import json
import subprocess
import sys

SCRIPT = "evaluation/recall_gain.py"


def write(path, name: str, *hits: tuple[str, int, int]):
    """Answers by dialogue, distance and whether they were right."""
    lines = [
        {"where": where, "turn": distance, "distance": distance, name: {"recalled": bool(hit)}}
        for where, distance, hit in hits
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


def test_seeds_are_averaged_and_questions_paired(tmp_path):
    before = write(tmp_path / "b", "start", ("a", 1, 0), ("a", 2, 0), ("c", 2, 1), ("d", 4, 0))
    one = write(tmp_path / "1", "recall", ("a", 1, 1), ("a", 2, 1), ("c", 2, 1))
    two = write(tmp_path / "2", "recall", ("a", 1, 1), ("a", 2, 0), ("c", 2, 1), ("d", 4, 1))
    sides = ("--before", before, "--before-name", "start", "--after", one, two)
    done = run(*sides, "--json")
    figures = json.loads(done.stdout)
    assert {over: (gain["gain"], gain["n"]) for over, gain in figures.items()} == {
        "2": (0.25, 2), "mean": (0.25, 2), "all": (0.5, 3),
    }, "the second seed has a question that the first wasn't asked"  # fmt: skip
    shown = run(*sides).stdout.splitlines()
    assert shown[0] == "   2  no difference (0.0 to 50.0)  n 2"
    assert shown[2] == "all  no difference (0.0 to 75.0)  n 3".rjust(len(shown[2]))


def test_files_that_cannot_be_compared_are_refused_in_one_line(tmp_path):
    one = write(tmp_path / "1", "recall", ("a", 2, 1))
    other = write(tmp_path / "2", "recall", ("b", 2, 1))
    done = run("--before", one, "--after", other)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no question is in all of these files" in done.stderr
    done = run("--before", one, "--after", other, "--name", "mrl")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no answers of mrl" in done.stderr
