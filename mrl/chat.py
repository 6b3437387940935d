"""Talk to a reactive model and watch its memory: on a page of this machine, or in the terminal.

    uv run --group chat mrl/chat.py --model outputs/quickstart/mrl
    uv run mrl/chat.py --model outputs/quickstart/mrl --cli

The page (http://127.0.0.1, reached from nowhere else) shows what each turn moved in the memory, which slots the answer
read, and what a decoder of the same size that reads everything again would pay. A question can be put to a memory that
was reset, a turn undone or taken out of the past, the dialogue saved as a file and loaded again. docs/chat.md says
what the numbers are.
"""

import argparse
import math
from pathlib import Path

from pipeline.errors import InputError
from pipeline.exits import exit_status
from pipeline.hub import is_hub_name, refuse_unreachable


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="output_dir of a stage, a folder with weights, or a Hub name")
    parser.add_argument("--cli", action="store_true", help="in this terminal, without a page")
    parser.add_argument(
        "--begin",
        choices=["answer", "think", "auto"],
        default="answer",
        help="replies begin with the answer, with a thought, or with what the model finds likelier",
    )
    parser.add_argument("--max-new-tokens", type=int, default=128, help="most tokens of an answer")
    parser.add_argument("--max-think-tokens", type=int, default=64, help="most tokens of a thought before it")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest token")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn with a temperature")
    parser.add_argument("--port", type=int, help="of the page; default: the first free one from 7860 on")
    return parser.parse_args(arguments)


def check(options: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is loaded. Raises InputError."""
    if options.max_new_tokens < 2:
        raise InputError(f"--max-new-tokens is {options.max_new_tokens}; give 2 or more")
    if options.max_think_tokens < 1:
        raise InputError(f"--max-think-tokens is {options.max_think_tokens}; give 1 or more")
    if not (math.isfinite(options.temperature) and options.temperature >= 0):
        raise InputError(f"--temperature is {options.temperature}; give 0 (greedy) or more")
    if options.port is not None and not 1024 <= options.port <= 65535:
        raise InputError(f"--port is {options.port}; give one of 1024 to 65535")
    if is_hub_name(options.model):
        refuse_unreachable(options.model, "--model")
    elif not Path(options.model).exists():
        raise InputError(f"--model: there is no folder {options.model}; name a finished run, or a model of the Hub")


def main(options: argparse.Namespace) -> None:
    """Load the model, then talk until the page or the terminal is closed."""
    check(options)
    if not options.cli:
        from mrl.talk.page import require_gradio

        require_gradio()
    from mrl.talk.session import Session
    from mrl.talk.speaker import Speaker
    from mrl.talk.world import describe_world
    from mrl.training.model_io import ModelConfig, load_reactive
    from pipeline.device import best_device

    model, tokenizer = load_reactive(ModelConfig(path=options.model))
    model.to(best_device())
    speaker = Speaker(
        model, tokenizer, options.max_new_tokens, options.temperature, options.seed, options.max_think_tokens
    )
    list(speaker.speak(speaker.prompt("?"), model.initial_state(1)))  # what only a first reply takes, taken before it
    world = describe_world(options.model)
    if options.cli:
        from mrl.talk.terminal import Terminal

        Terminal(Session(speaker), options.begin, world).run()
        return
    from mrl.talk.page import serve

    serve(speaker, options.begin, world, Path(options.model).name, options.port)


if __name__ == "__main__":
    chosen = parse_options()
    with exit_status():
        main(chosen)
