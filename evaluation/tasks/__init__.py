"""lm_eval tasks of this project: `lm_eval --include_path evaluation/tasks`."""
