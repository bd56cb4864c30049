"""cratepy: a shared-nothing distributed SQL database.

Every node is equal: it speaks PostgreSQL and HTTP, plans statements, and runs them on the nodes that own the shards.
Start reading at ``docs/architecture/README.md``; the packages below are listed there in the order of their imports.
"""

__version__ = "0.1.0"

#: The CrateDB version whose SQL, tables and HTTP replies this release follows. Clients branch on it
#: (``GET /`` → ``version.number``), so it is not our own version.
CRATEDB_VERSION = "6.4.3"

#: The PostgreSQL version announced in ParameterStatus, the same as CrateDB's.
POSTGRES_VERSION = "14.0"
