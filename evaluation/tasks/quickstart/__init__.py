"""lm_eval tasks over the held-out puzzles of the quickstart."""
