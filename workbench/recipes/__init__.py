"""Reference recipes with their sources, and the audit of a training config against them.

A recipe is a TOML file in `reference/`: what an upstream config decides, with repository, commit and hash of
that file. `audit` compares a config with a recipe and applies rules that need no recipe; `judge_claims` tells
right statements about a recipe from wrong ones. No config is run.
"""
