"""Accuracy on bAbI's tasks: what evaluation/babi.py measures."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from evaluation.inference import AT_ONCE, Thinking, generate_answers, states_before
from evaluation.metrics import words
from mrl.dialogues.dataset import Conversation, RowSource, read_conversations
from mrl.dialogues.tokenization import encode_dialogues
from mrl.model import ReactiveForCausalLM
from mrl.training.model_io import ModelConfig, load_reactive
from pipeline.artifact import write_json, write_text
from pipeline.device import best_device
from pipeline.errors import InputError
from pipeline.progress import progress_bar

PUBLISHED = Path(__file__).parents[1] / "published_babi.json"


def task_number(task: str) -> str:
    """`qa11_basic-coreference` -> `11`. Raises InputError for another name."""
    match = re.match(r"qa(\d+)_", task)
    if not match:
        raise InputError(f"--data: task {task!r} isn't named like qa1_single-supporting-fact; is this the bAbI file?")
    return match[1]


def measure(
    model: ReactiveForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    seed: int,
    thinking: Thinking = AT_ONCE,
) -> dict[str, dict[str, Any]]:
    """Questions, right answers and accuracy of every task; where something is thought also how many of its answers had
    a thought, the tokens of all thoughts, and how many came to no end."""
    limit = model.config.max_interaction_length
    encoded = encode_dialogues(conversations, tokenizer, max_length=limit, too_long="truncate", where="--data")
    order = sorted(range(len(conversations)), key=lambda i: len(conversations[i].exchanges))
    by_task: dict[str, dict[str, Any]] = {}
    counted = ("thoughts", "thought_tokens", "unfinished_thoughts") if thinking.think != "never" else ()
    nothing = dict.fromkeys(counted, 0)
    for start in progress_bar(range(0, len(order), 64), desc="babi", unit="batch"):
        dialogues = order[start : start + 64]
        history = states_before(model, encoded, dialogues, seed)
        for turn in range(history.writes + 1):
            rows = [r for r, d in enumerate(dialogues) if turn < len(conversations[d].exchanges)]
            asked = [conversations[dialogues[row]].exchanges[turn] for row in rows]
            memory = history[turn].rows(torch.tensor(rows))
            queries = [exchange.query or "" for exchange in asked]
            said = generate_answers(model, tokenizer, queries, memory, 8, thinking=thinking)
            for row, exchange, answer in zip(rows, asked, said, strict=True):
                tally = by_task.setdefault(conversations[dialogues[row]].group, {"questions": 0, "right": 0, **nothing})
                tally["questions"] += 1
                tally["right"] += words(answer.text) == words(exchange.answer)
                if nothing:
                    tally["thoughts"] += answer.thought > 0
                    tally["thought_tokens"] += answer.thought
                    tally["unfinished_thoughts"] += answer.cut
    for tally in by_task.values():
        tally["accuracy"] = round(tally["right"] / tally["questions"], 4)
    return dict(sorted(by_task.items(), key=lambda item: int(task_number(item[0]))))


def table(by_task: Mapping[str, Mapping[str, Any]], published: Mapping[str, Any]) -> str:
    """Accuracy in per cent as a Markdown table, with what the columns were trained on."""
    models = published["models"]
    heads = [f"{name} ({figures['training_questions']:,} questions)" for name, figures in models.items()]
    lines = ["| " + " | ".join(["task", "questions", "this model", *heads]) + " |"]
    lines.append("|" + "---|" * (3 + len(heads)))
    for task, tally in by_task.items():
        others = [figures["error_percent"].get(task_number(task)) for figures in models.values()]
        cells = [f"{100 - error:.1f}" if error is not None else "–" for error in others]
        lines.append(
            "| " + " | ".join([task, str(tally["questions"]), f"{100 * tally['accuracy']:.1f}", *cells]) + " |"
        )
    return "\n".join([*lines, "", published["note"]])


def run(options: argparse.Namespace) -> None:
    """Measure, write, print."""
    model, tokenizer = load_reactive(ModelConfig(path=options.model))
    model.to(best_device()).eval()
    source = RowSource(path=options.data, split="test", group_by="task")
    conversations = read_conversations(source)
    if options.tasks:
        conversations = [c for c in conversations if task_number(c.group) in options.tasks]
        if not conversations:
            raise InputError(f"--tasks: {options.data} has none of {', '.join(options.tasks)}")
    thinking = Thinking(options.think, options.max_think_tokens)
    by_task = measure(model, tokenizer, conversations[: options.episodes], options.seed, thinking)
    published = json.loads(PUBLISHED.read_text())
    report = {"babi": by_task, "parameters": sum(p.numel() for p in model.parameters()), "published_babi": published}
    if options.output_dir:
        write_json(options.output_dir / "babi.json", report)
        write_text(options.output_dir / "babi.md", table(by_task, published) + "\n")
    print(json.dumps(report) if options.json else table(by_task, published))
