"""The rewrite rules of the logical optimizer, one module per subject; ``optimizer.RULES`` is the list."""
