"""Rows of the tables of sys, information_schema and pg_catalog, made from the cluster state and from this node."""
