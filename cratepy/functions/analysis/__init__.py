"""Full-text analysis without an index: tokenizers, token filters, the analyzers made of them, the options of MATCH.

In: names and settings as SQL writes them, texts. Out: tokens with positions; definitions that ``storage.text`` turns into
analyzers of the index; errors in CrateDB's words. Its own room because the SQL side checks names with it and shards
analyze with it, and both must agree. Source: the reference of analyzers of CrateDB, Lucene's analysis package.
"""
