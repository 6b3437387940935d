"""What a supervised stage leaves: the finished weights with their card, the last figures, the push to the Hub."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mrl.recipes.model import MODEL_FOLDER
from mrl.training.checkpoint import run_manifest
from mrl.training.loop import Training
from mrl.training.model_io import save_reactive
from pipeline.artifact import atomic_dir, write_text
from pipeline.card import model_card
from pipeline.config import to_dict
from pipeline.hub import push_folder
from pipeline.redaction import redact
from pipeline.run import is_main_process


def finish(
    training: Training, stage: Any, evaluation: Mapping[str, Any], save: Callable[[Path], None] | None = None
) -> None:
    """Write `output_dir/model` (weights, code, tokenizer, card; manifest last), the figures, and push if asked. save:
    writes the weights where they aren't the trained model's alone."""
    run = training.run
    folder = run.dir / MODEL_FOLDER
    training.report(evaluation=dict(evaluation), model_dir=str(folder))
    if is_main_process():
        manifest = run_manifest(run, data_fingerprint=training.fingerprint, evaluation=dict(evaluation))
        with atomic_dir(folder, manifest) as temporary:
            if save is None:
                save_reactive(training.model, training.tokenizer, temporary)
            else:
                save(temporary)
            write_text(temporary / "README.md", _card(training, stage, evaluation))
        if stage.push_to_hub:
            commit = push_folder(folder, stage.push_to_hub, repo_type="model", message=f"{run.stage} with trlm")
            run.report(hub=stage.push_to_hub, hub_commit=commit)
    training.accelerator.wait_for_everyone()


def _card(training: Training, stage: Any, evaluation: Mapping[str, Any]) -> str:
    run, config = training.run, redact(to_dict(stage))
    sections = {name: part for name, part in config.items() if isinstance(part, dict) and name not in ("model", "data")}
    chosen = {f"{name}.{key}": value for name, part in sections.items() for key, value in part.items()}
    figures = {k: run.facts[k] for k in ("steps", "tokens", "tokens_per_s", "parameters") if k in run.facts}
    for part, counts in run.facts.get("data", {}).items():
        figures |= {f"{part}: {what}": count for what, count in counts.items()}
    return model_card(
        name=stage.name or run.dir.name,
        stage=run.stage,
        summary=stage.description or f"A model with a memory of fixed size, after {run.stage}.",
        base_model=stage.model.path,
        datasets=[f"{s.path} (fingerprint {training.fingerprint})" for s in stage.data.sources("train")],
        recipe={**{k: v for k, v in chosen.items() if not isinstance(v, dict | list)}, "seed": run.seed},
        figures={**figures, **{k: v for k, v in evaluation.items() if isinstance(v, int | float)}},
        tags=["reactive-transformer", "memory"],
        command=f"uv run mrl/{run.stage}.py --config-path CONFIG.yaml",
    )
