"""The nouns: types, names, schema, cluster state, typed expressions, relations and plans.

``sql`` writes plans, ``execution`` runs them, ``cluster`` stores schemas and ``storage`` obeys them; the nouns they share
live below all four so that none imports another for them. Everything here is frozen and free of IO. Nouns that cross a
process are ``msgspec.Struct`` (see ``docs/decisions/0001-structs.md``), the others are frozen dataclasses.
"""
