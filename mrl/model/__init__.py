"""The Reactive Transformer as a Hugging Face model; the files travel inside every checkpoint."""

from transformers import AutoConfig, AutoModelForCausalLM

from .configuration_reactive import ReactiveConfig
from .conversation import chat_template
from .generation import Answers, AnswerScores, Dialogue
from .memory import inspect_state, load_state, save_state
from .modeling_reactive import DecoderOutput, EncoderOutput, ReactiveForCausalLM
from .padding import join_rows, take_rows
from .sampling import Sampling

# In this process the classes are known without trust_remote_code; elsewhere the checkpoint brings its own copy.
AutoConfig.register("reactive", ReactiveConfig, exist_ok=True)
AutoModelForCausalLM.register(ReactiveConfig, ReactiveForCausalLM, exist_ok=True)

__all__ = [
    "AnswerScores",
    "Answers",
    "DecoderOutput",
    "Dialogue",
    "EncoderOutput",
    "ReactiveConfig",
    "ReactiveForCausalLM",
    "Sampling",
    "chat_template",
    "inspect_state",
    "join_rows",
    "load_state",
    "save_state",
    "take_rows",
]
