"""Text indexes of a shard: built beside each segment, searched together.

In: segments, the table's definition, queries. Out: more files of a segment; rows and scores. tantivy lives here and nowhere
else. Its ways that shaped this room are in ``docs/decisions/0010``.
"""
