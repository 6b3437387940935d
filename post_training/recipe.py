"""What the recipes of this room have in common beside `pipeline.stage_config`: keys, and what is said of a start."""

from dataclasses import dataclass

from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback

from pipeline.run import Run
from pipeline.stage_config import TrainingStageConfig
from post_training.adapter import AdapterConfig
from post_training.arguments import EarlyStoppingConfig
from post_training.examples import Examples
from post_training.policy import PolicyConfig, weights_fingerprint


@dataclass(kw_only=True, frozen=True)
class PostTrainingConfig(TrainingStageConfig):
    """A recipe that trains a causal language model with one of TRL's trainers. It adds `dataset` and `trainer`."""

    model: PolicyConfig
    chat_template: str | None = None
    """Jinja, or a file that holds it. Default: the template that comes with the model."""
    peft: AdapterConfig | None = None
    """Train low-rank adapters instead of every weight."""
    early_stopping: EarlyStoppingConfig | None = None
    """End when the held-out figure gets no better."""


def report_inputs(run: Run, examples: Examples, model: PreTrainedModel) -> None:
    """Report what is trained from what: rows by their fate, and the fingerprints that a resume compares."""
    run.report(
        data_fingerprint=examples.fingerprint,
        examples_fingerprint=examples.examples_fingerprint,
        start_fingerprint=weights_fingerprint(model),
        **examples.counts,
    )
    if examples.held_out_counts:
        run.report(held_out_rows=examples.held_out_counts)


def stopping(config: EarlyStoppingConfig | None) -> list[TrainerCallback]:
    """The callback for the section `early_stopping`, if there is one."""
    return [EarlyStoppingCallback(config.patience, config.min_improvement)] if config is not None else []


__all__ = ["PostTrainingConfig", "report_inputs", "stopping"]
