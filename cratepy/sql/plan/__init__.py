"""From an analyzed statement to a plan: logical rules, fast-path detection, distribution, EXPLAIN.

::

    AnalyzedStatement ─ subqueries ─ optimizer (rules) ─┬─ lookups (Get, Count)
                                                        └─ physical (phases) ─ exchanges (narrow what travels)
"""
