"""Coordination: who is master, and which state is committed. Sans-io: events in, effects out, nothing else.

``kernel`` keeps it safe (six handlers), ``coordinator`` and ``leadership`` keep it going (elections, joins, checks,
publications). The host persists, sends and applies what they say, in order; see ``coordinator``.
"""
