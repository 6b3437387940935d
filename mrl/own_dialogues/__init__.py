"""From somebody's dialogues to the recipes of all stages: rows split and renamed, sizes chosen, YAMLs written."""
