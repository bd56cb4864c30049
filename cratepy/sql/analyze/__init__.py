"""The analyzer: sqlglot's tree and the catalog in, frozen typed statements out; sqlglot's tree ends here."""
