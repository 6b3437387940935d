"""Supervised memory-aware training: what mrl/memory_sft.py does."""

from collections.abc import Mapping
from functools import partial

from mrl.dialogues.corpus import load_corpus, preview, require_questions
from mrl.losses.answer_lm import memory_aware_counts, memory_aware_loss
from mrl.recipes.supervised import MemorySFTStage
from mrl.training.export import finish
from mrl.training.length_curriculum import LengthCurriculum
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from mrl.training.recall import Recall, measure_recall
from pipeline.run import Run


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Loss and accuracy per scored token, recall per question that takes memory; where it is learnt what to keep, the
    share of the tokens needed later that was kept."""
    metrics = {
        "answer_loss": mean(sums, "answer_loss", "answer_n"),
        "answer_accuracy": mean(sums, "answer_right", "answer_n"),
        "recall": mean(sums, "recalled", "asked_n"),
    }
    return metrics | ({"needed_kept": mean(sums, "needed_kept", "needed_n")} if "needed_n" in sums else {})


def run_stage(stage: MemorySFTStage, run: Run) -> None:
    """Train, evaluate, save."""
    model, tokenizer = load_reactive(stage.model, needs_memory=True, needs_encoder=stage.objective.open_book)
    corpus = load_corpus(stage.data, tokenizer, model.config.max_interaction_length, run)
    require_questions(corpus.train, "data.train")
    run.preview(preview(tokenizer, corpus.train))
    curriculum = LengthCurriculum(corpus.train, stage.curriculum, stage.trainer.batch_size, stage.seed)
    run.report(dialogues_in_no_lesson=curriculum.left_out)

    def evaluate(training: Training, dialogues: int | None) -> Recall:
        with training.evaluating():
            return measure_recall(model, corpus.held_out, training, dialogues, stage.seed)

    parts = {"curriculum": curriculum}
    with Training(stage.trainer, stage.optimizer, model, tokenizer, run, parts, corpus.fingerprint) as training:
        for step in training.steps():
            batch, present = curriculum.batch(step)
            counts = memory_aware_counts(batch, stage.objective)
            loss = partial(memory_aware_loss, model, counts=counts, config=stage.objective)
            sums = training.step(batch, loss, tokens=int(batch.mask.sum()))
            if present and curriculum.observe(sums["recalled"], sums["asked_n"]):
                training.record({"lesson_steps": curriculum.now})
            training.log(means, lesson_steps=curriculum.now)
            if training.evaluation_due:
                recall = evaluate(training, stage.held_out_dialogues)
                training.record_evaluation(recall.metrics(), score=recall.recall - 1e-3 * recall.answer_loss)
                if stage.stop_at is not None and curriculum.final and recall.recall >= stage.stop_at:
                    training.stop()
        training.restore_best()
        recall = evaluate(training, None)
        run.report(lesson_steps=curriculum.now, recall_by_distance=recall.by_distance())
        finish(training, stage, recall.metrics())
