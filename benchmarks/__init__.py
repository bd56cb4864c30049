"""One runnable script per claim of speed; every figure is a ratio against a peer in the same run.

Machines are noisy and differ: absolute times say little, ratios within one run carry over. ``python -m benchmarks`` runs all.
"""
