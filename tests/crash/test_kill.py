"""The quick version of ``make crash-kill``: some kills at calls and some at any time; no server."""

from __future__ import annotations

import pytest

from tests.crash.killing import Chain, strace_refusal


@pytest.mark.parametrize("is_traced", [True, False])
def test_a_killed_process_leaves_all_that_was_acknowledged(is_traced: bool) -> None:
    refusal = strace_refusal() if is_traced else None
    if refusal is not None:
        pytest.skip(refusal)
    chain = Chain(seed=7, is_traced=is_traced)
    chain.run(8)
    assert chain.failures == []
    assert not is_traced or chain.points.total() > 0
