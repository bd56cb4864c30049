"""The parser: statement text in, sqlglot's tree (own dialect) out; no names are resolved here."""
