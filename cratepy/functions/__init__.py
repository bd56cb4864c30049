"""One declaration per SQL function: signatures, result type, how the engine computes it, how an aggregate is split."""
