"""Sweeps: all checkpoints of a run by all variants, local or on a Ray cluster, resumed after a stop."""
