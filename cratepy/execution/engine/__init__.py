"""The vectorised local operators: a fragment as SQL text over named inputs, run by DataFusion, stoppable at once."""
