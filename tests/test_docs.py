"""What the documents repeat of recipes and data is what stands there."""

import json
import re
from pathlib import Path

import pytest

from pipeline.config import load_config, load_yaml
from pipeline.hub import is_hub_name
from post_training.recipes.stages import DPOStage, SFTStage

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_table_of_a_blend_is_its_yaml(stage):
    section = (ROOT / "docs" / "trlm.md").read_text(encoding="utf-8").split(f"### Stage {stage}:")[1].split("\n#")[0]
    blend = load_yaml(ROOT / "data" / "config" / f"stage_{stage}.yaml")
    total = sum(source["entries"] for source in blend["datasets"])
    assert f"`{blend['name']}`, {total:,} rows" in section
    said = re.findall(r"^\| (\S+/\S+) \| (.+?) \| ([\d,]+) \| ([\d.]+) % \|$", section, re.MULTILINE)
    assert said == [
        (
            source["name"],
            " / ".join(part for part in (source.get("subset"), source["split"]) if part),
            f"{source['entries']:,}",
            f"{100 * source['entries'] / total:.1f}",
        )
        for source in blend["datasets"]
    ]


def test_the_published_figures_are_those_of_the_report():
    published = json.loads((ROOT / "evaluation/reporting/published.json").read_text(encoding="utf-8"))["models"]
    ours, base = (published[name]["figures"] for name in ("trlm-135M", "SmolLM2-135M-Instruct"))
    text = (ROOT / "post_training" / "RESULTS.md").read_text(encoding="utf-8").split("## Quickstart")[0]
    rows = re.findall(r"^\| (\w[\w -]*?)(?:, .*?)? \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    found = {name.lower().replace(" ", "_").replace("-", "_"): cells for name, *cells in rows if name != "benchmark"}
    assert set(found) == set(ours) | set(base)
    for task, cells in found.items():
        values = [figures[task]["value"] if task in figures else None for figures in (ours, base)]
        assert [None if cell == "–" else float(cell.split()[0]) for cell in cells[:2]] == values
        change = None if None in values else round(values[0] - values[1], 2)
        assert (None if cells[2] == "–" else float(cells[2].replace("−", "-"))) == change


def test_stages_start_from_the_published_weights_that_the_document_names():
    text = (
        (ROOT / "docs" / "trlm.md").read_text(encoding="utf-8").split("**Where a stage starts.**")[1].split("\n- ")[0]
    )
    named = dict(re.findall(r"`(?:--set\s+model\.name=Shekswess|…)/([\w-]+)`\s+\(stage (\d)\)", text))
    assert named == {"trlm-stage-1-sft-final-2": "2", "trlm-stage-2-sft-final-2": "3"}
    for weights, stage in named.items():
        kind = SFTStage if stage == "2" else DPOStage
        path = ROOT / "post_training" / "config" / f"stage_{stage}.yaml"
        assert load_config(kind, path).model.name == f"outputs/stage_{int(stage) - 1}"
        chosen = load_config(kind, path, [f"model.name=Shekswess/{weights}"]).model.name
        assert chosen == f"Shekswess/{weights}"
        assert is_hub_name(chosen)
        assert f"model.name=Shekswess/{weights}" in path.read_text(encoding="utf-8") or stage == "3"


DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "*/README.md", "*/RESULTS.md")
    for path in ROOT.glob(pattern)
    if not path.parent.name.startswith(".")
)
ROOMS = "data|docs|evaluation|mrl|pipeline|post_training|tests"
NAMED_PATH = re.compile(rf"(?<![\w/.-])(?:{ROOMS})/[\w/.-]+\.(?:py|yaml|sh|css|js|png|md)\b")


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a Markdown text."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def missing(document: str, text: str) -> list[str]:
    """Links, scripts and recipes named in a document's text that aren't there. document: its path below the root."""
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        words = text if not path else target.read_text("utf-8") if target.suffix == ".md" and target.is_file() else ""
        if not target.exists() or (anchor and anchor not in anchors(words)):
            wrong.append(link)
    commands = re.findall(r"(?:uv run|accelerate launch)((?: +-+[\w-]+(?:[ =][\w/.-]+)?)*) +([\w/.-]+\.py)", text)
    named = {script for _, script in commands} | set(NAMED_PATH.findall(re.sub(r"\]\([^)]*\)", "]", text)))
    return wrong + sorted(path for path in named if "NAME" not in path and not (ROOT / path).is_file())


def test_links_scripts_and_recipes_that_documents_name_are_there():
    assert len(DOCUMENTS) >= 12
    found = {name: missing(name, (ROOT / name).read_text("utf-8")) for name in DOCUMENTS}
    assert not {name: wrong for name, wrong in found.items() if wrong}


def test_what_is_not_there_is_seen():
    text = "# A `b` (c)\n[x](docs/chat.md) [y](docs/no.md#z) [z](#a-b-c) [u](#a-b) [w](https://w.org/x)\n"
    text += "`uv run --group chat mrl/no.py --cli`, `uv run mrl/chat.py --config-path mrl/config/no.yaml`"
    assert missing("README.md", text) == ["docs/no.md#z", "#a-b", "mrl/config/no.yaml", "mrl/no.py"]


def test_targets_of_make_that_documents_name_are_there():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    for name in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", (ROOT / name).read_text("utf-8"), flags=re.M))
        assert named <= targets, (name, named - targets)


def test_figures_that_other_documents_repeat_are_those_of_the_results():
    results, readme = ((ROOT / "mrl" / name).read_text("utf-8") for name in ("RESULTS.md", "README.md"))
    table = readme.split("## Results")[1]
    rows = re.findall(r"^\| ([a-z].*)$", table, re.MULTILINE)
    assert len(rows) == 5
    # The supervised model's row names the model there, which the table here has no need to.
    assert [row for row in rows if f"| {row}" not in results.replace("| reactive model after", "| after")] == []
    grpo = (ROOT / "post_training" / "RESULTS.md").read_text("utf-8").split("## GRPO")[1].split("\n## ")[0]
    before, after = re.search(r"^\| ([\d.]+) \| ([\d.]+) \|", grpo, re.MULTILINE).groups()
    told = " ".join((ROOT / "docs" / "post_training.md").read_text("utf-8").split())
    assert f"{before} per cent are right before and {after} after" in told


def test_precision_and_platforms_are_what_the_document_says():
    text = " ".join((ROOT / "docs" / "trlm.md").read_text(encoding="utf-8").split())
    assert "Weights are fp32; the arithmetic is bf16 autocast" in text
    for stage, kind in ((1, SFTStage), (2, SFTStage), (3, DPOStage)):
        recipe = load_config(kind, ROOT / "post_training" / "config" / f"stage_{stage}.yaml")
        assert recipe.model.dtype == "float32"
        assert recipe.trainer.get("bf16", True), "bf16 is what an accelerator takes unless the recipe says otherwise"
    # Modules of Unix alone are imported as such: where that changes, the document may promise Windows.
    rooms = ("pipeline", "data")
    unix = [
        path
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"^import (fcntl|resource)$", path.read_text("utf-8"), re.M)
    ]
    assert bool(unix) == ("Linux and macOS; on Windows use WSL" in text)
