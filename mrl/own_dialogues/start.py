"""The model that is begun with, where one is given: what its configuration says of the recipes."""

from dataclasses import dataclass

from mrl.recipes.model import resolve
from pipeline.errors import InputError
from pipeline.hub import first_line, keep_hub_offline_if_unreachable


@dataclass(frozen=True)
class Start:
    """A model with memory."""

    path: str
    """As it was given."""
    source: str
    """The folder with its weights and tokenizer, or its name on the Hub."""
    interaction_limit: int
    slots: int
    converted: bool
    """Whether mrl/convert.py made it of a causal model: it has a chat template's markers and no encoder to train."""


def read_start(path: str) -> Start:
    """Look at a model's configuration. Raises InputError where there is no model, or one without memory."""
    from mrl.model import ReactiveConfig  # takes seconds, which a run from fresh weights doesn't need yet

    try:
        source = str(resolve(path))
    except InputError as error:
        raise InputError(str(error).replace("model.path:", "--model:")) from None
    keep_hub_offline_if_unreachable(path)
    try:
        given, _ = ReactiveConfig.get_config_dict(source)
        if (kind := given.get("model_type")) != ReactiveConfig.model_type:
            raise InputError(
                f"--model: {source} holds a model of type {kind}, which has no memory; give it one first with uv run "
                f"mrl/convert.py --from {path}"
            )
        config = ReactiveConfig.from_dict(given)
    except (OSError, ValueError) as error:
        raise InputError(f"--model: {source}: its configuration can't be read: {first_line(error)}") from None
    if not config.memory_slots:
        raise InputError(f"--model: {source} has no memory (memory_slots 0); give it one with mrl/convert.py")
    return Start(
        path, source, config.max_interaction_length, config.memory_slots, converted=config.turn_frame is not None
    )
