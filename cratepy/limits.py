"""Every bound of the system, with its unit.

A queue, buffer, batch, retry or recursion without a line here is a defect. Settings that an operator may change live in
``config``; the numbers here are either fixed or the defaults of such a setting (then the setting is named).
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- statements ------------------------------------------------------------------------------------------------------
#: Setting ``statement_max_length``; CrateDB's default.
STATEMENT_CHARS_MAX: Final = 262_144
#: Nesting of expressions, subqueries and parentheses. Python's own stack is 1,000 frames deep; each level of nesting
#: costs up to six of them in the parser.
STATEMENT_NESTING_MAX: Final = 128
#: Characters of a number in a statement; Python reads 4,300 digits at most, and doubles end at 1e308.
NUMBER_CHARS_MAX: Final = 1_000
#: Times a name of WITH or of a view is replaced by its query: each may name others twice, and so on.
QUERY_EXPANSIONS_MAX: Final = 500
#: Parameters of one statement: the PostgreSQL wire format counts them in 16 bits.
PARAMETERS_MAX: Final = 65_535
#: Texts kept in the statement → plan cache of a node.
PLAN_CACHE_ENTRIES_MAX: Final = 1_024
#: Texts longer than this are not kept in the plan cache (bulk VALUES lists).
PLAN_CACHE_TEXT_CHARS_MAX: Final = 16_384
#: Columns of a table; CrateDB's ``mapping.total_fields.limit``.
TABLE_COLUMNS_MAX: Final = 1_000
#: Shards of a table; CrateDB's limit.
TABLE_SHARDS_MAX: Final = 1_024
#: Bytes of ``schema.table`` and of a column name.
IDENTIFIER_BYTES_MAX: Final = 255
#: Names that an unknown one is compared with, some 20 µs each, and how many alike ones an error suggests.
SIMILAR_NAMES_MAX: Final = 50
SUGGESTED_NAMES_MAX: Final = 5
#: Rules are applied until nothing changes, but never more often than this.
OPTIMIZER_PASSES_MAX: Final = 10
#: Key combinations that a WHERE over the primary key is turned into a get for; above it becomes a scan.
PRIMARY_KEY_GETS_MAX: Final = 10_000
#: Keys that are read on the event loop, at some 5 µs each; more are read on a worker thread.
GET_INLINE_KEYS: Final = 128

#: Edges that a comparison of two shapes may look at: about a second, far more than two countries' borders take.
SHAPE_CHECKS_MAX: Final = 300_000

# --- client connections ----------------------------------------------------------------------------------------------
#: Setting ``http.max_content_length``; CrateDB's default. Bytes after decompression count, too.
HTTP_BODY_BYTES_MAX: Final = 100 * MIB
HTTP_HEADER_BYTES_MAX: Final = 16 * KIB
#: Bodies of requests up to this size are parsed on the event loop, in about half a millisecond; bigger ones on a worker thread.
HTTP_INLINE_BODY_BYTES: Final = 64 * KIB
#: A PostgreSQL message before authentication, as in CrateDB.
PG_STARTUP_BYTES_MAX: Final = 10_000
PG_MESSAGE_BYTES_MAX: Final = 256 * MIB
#: Named statements and portals of one session.
PG_STATEMENTS_MAX: Final = 4_096
PG_PORTALS_MAX: Final = 4_096
#: Bind/Execute pairs of one statement that are gathered into one bulk write before a Sync.
PG_BATCH_EXECUTES_MAX: Final = 10_000
#: Settings one session keeps, known and unknown ones.
SESSION_SETTINGS_MAX: Final = 512
#: Setting ``statement_timeout``: the largest value.
STATEMENT_TIMEOUT_MS_MAX: Final = 2**31 - 1
#: Cursors of one session, and the rows a scrollable one may hold.
CURSORS_MAX: Final = 256
CURSOR_ROWS_MAX: Final = 1_000_000
#: A text longer than this is compiled on a worker thread: it would hold the event loop for more than a millisecond.
COMPILE_INLINE_CHARS_MAX: Final = 1_024
#: Pause before the next accept after the process ran out of file descriptors.
ACCEPT_RETRY_S: Final = 0.1
#: After a refusal the server reads on for so long, so that the client, still sending, gets to see the reply.
CONNECTION_LINGER_S: Final = 1.0
#: How long the end of a connection may take to stop what the client left running.
CONNECTION_CLOSE_TIMEOUT_S: Final = 5.0
#: Rows of one batch that are encoded on the event loop; more go to a worker thread, in slices of ENCODE_SLICE_ROWS.
ENCODE_INLINE_ROWS: Final = 256
ENCODE_SLICE_ROWS: Final = 8_192
#: Parameter bytes of Bind/Execute pairs gathered into one bulk write.
PG_BATCH_BYTES_MAX: Final = 16 * MIB
#: How long a client may take to finish its start-up; CrateDB's ``auth.timeout``.
PG_STARTUP_TIMEOUT_S: Final = 30.0
#: Statements of one simple query.
PG_QUERY_STATEMENTS_MAX: Final = 10_000
#: A result's JSON above this is sent in chunks while it is made; below it errors still get their own status.
HTTP_STREAM_BYTES: Final = MIB
#: Requests answered, or messages handled, on one connection before others get their turn.
CONNECTION_TURN_MAX: Final = 16
#: Client connections of a node, per protocol.
CONNECTIONS_MAX: Final = 4_096
#: A row of a result with more bytes is refused: it is in memory several times on its way to the client.
RESULT_ROW_BYTES_MAX: Final = 512 * MIB
#: Result bytes encoded before a write to the client's socket.
RESULT_CHUNK_BYTES: Final = 64 * KIB

# --- transport -------------------------------------------------------------------------------------------------------
TRANSPORT_FRAME_BYTES_MAX: Final = 128 * MIB
#: A frame before the handshake is done.
TRANSPORT_HANDSHAKE_BYTES_MAX: Final = 4 * KIB
TRANSPORT_CONNECT_TIMEOUT_S: Final = 3.0
TRANSPORT_HANDSHAKE_TIMEOUT_S: Final = 3.0
#: Connections that have not said who they are; more are closed at once.
TRANSPORT_STRANGERS_MAX: Final = 256
#: Requests sent to one peer and not answered yet.
TRANSPORT_IN_FLIGHT_MAX: Final = 4_096
#: Requests of one peer that run here at the same time; more wait in the socket.
TRANSPORT_HANDLERS_MAX: Final = 512
#: Bytes waiting to be sent to one peer, above which senders wait.
TRANSPORT_QUEUED_BYTES_MAX: Final = 8 * MIB
#: Streams of one connection, and streams of a node that nobody has claimed yet.
TRANSPORT_STREAMS_MAX: Final = 4_096
#: A stream that nobody claims is refused after this.
STREAM_UNCLAIMED_S: Final = 60.0
#: Keys of finished streams remembered, so that a late sender is refused at once.
STREAM_TOMBSTONES_MAX: Final = 4_096
#: Sent bytes that stay unacknowledged that long break the connection.
TRANSPORT_SILENCE_S: Final = 10.0
#: Waits between attempts to connect to a peer again: the first, and the longest.
RECONNECT_FIRST_S: Final = 0.05
RECONNECT_MAX_S: Final = 1.0
#: Deadline of a request whose caller names none.
REQUEST_TIMEOUT_S: Final = 30.0
#: How long OPTIMIZE waits for a node to rewrite its shards of the tables.
OPTIMIZE_TIMEOUT_S: Final = 6 * 3600.0
#: Batches of a data stream that may be on the way before the receiver has taken one.
STREAM_CREDITS: Final = 4
#: Rows of a batch on a data stream.
STREAM_BATCH_ROWS: Final = 8_192

# --- jobs ------------------------------------------------------------------------------------------------------------
#: Jobs of a node; more are refused with TooManyRequests.
JOBS_MAX: Final = 4_096
#: Bytes an exchange input keeps in memory before it goes on in a file.
EXCHANGE_MEMORY_BYTES_MAX: Final = 64 * MIB
#: Memory pool of the local operators of a node, in bytes, if the machine's memory is not known.
ENGINE_MEMORY_BYTES: Final = 1_024 * MIB
#: A text made by repeat, replace or regexp_replace may not grow beyond this (CrateDB dies of OutOfMemoryError instead).
TEXT_RESULT_CHARS_MAX: Final = 64 * MIB
#: Bytes of a constant that is computed while a statement is compiled; of a larger one its expression stays in the plan.
FOLDED_BYTES_MAX: Final = 64 * KIB
#: Bytes of the texts and lists that a function may make of one batch of rows; of more, rows are taken in smaller batches.
KERNEL_BATCH_BYTES_MAX: Final = 256 * MIB
#: A join side estimated below this many rows is broadcast instead of partitioned.
BROADCAST_ROWS_MAX: Final = 50_000
#: Groups of an input of so many rows are merged on the handler; those of a larger one may be many, and every node merges some.
GATHERED_ROWS_MAX: Final = 2_000_000
#: Rows of a join's larger side are grouped before it if they are at least so many …
EARLY_GROUPING_ROWS_MIN: Final = 20_000
#: … and their groups at least so many times fewer.
EARLY_GROUPING_FACTOR: Final = 4
#: Finished jobs kept for a late KILL or a late stream.
JOB_TOMBSTONES_MAX: Final = 1_024
#: Attempts to route a read or a write again after stale routing.
ROUTING_RETRIES_MAX: Final = 10
#: How long a statement whose routing is stale waits for a newer cluster state: longer than a silent master is noticed and
#: replaced on a machine whose disk is busy.
ROUTING_WAIT_S: Final = 10.0
#: Finished statements and phases kept for sys.jobs_log and sys.operations_log; CrateDB's ``stats.jobs_log_size``.
JOBS_LOG_MAX: Final = 10_000
OPERATIONS_LOG_MAX: Final = 10_000
#: Characters of all statement texts in the log; a node that is fed long INSERTs keeps fewer entries.
JOBS_LOG_CHARS_MAX: Final = 32 * MIB
#: Threads of a node for files: opening, refreshing and flushing shards, spilling.
FILE_THREADS_MAX: Final = 4
#: Threads that open shards: they wait for syncs of the disk most of the time.
SHARD_OPENERS_MAX: Final = 8
#: Batches that a query makes ahead of a client that reads slowly.
RESULT_BATCHES_AHEAD: Final = 2
#: Bytes of a batch on a data stream, above which it is cut further (far below TRANSPORT_FRAME_BYTES_MAX).
STREAM_BATCH_BYTES: Final = 8 * MIB
#: A batch with more bytes than this is compacted for another node on a worker thread.
COMPACT_INLINE_BYTES_MAX: Final = 128 * KIB
#: Bytes an exchange input may have in its file.
EXCHANGE_FILE_BYTES_MAX: Final = 64 * 1024 * MIB
#: A phase that only filters, counts or computes this many values does so on the event loop: that takes less time than to
#: ask a thread, and the engine is not even loaded on nodes that nothing else is asked of.
PHASE_VALUES_HERE_MAX: Final = 32
#: A fragment that can touch at most this many rows is run in one go on a worker thread instead of as a stream.
SMALL_FRAGMENT_ROWS_MAX: Final = 131_072

#: ORDER BY _score LIMIT k takes the best k from the text index up to this k (rows a shard); above, all that match are sorted.
BEST_ROWS_MAX: Final = 10_000
#: A search whose first shards take longer than this is done by several threads, a shard each: a thread costs some 0.1 ms.
SEARCH_ALONE_S: Final = 0.000_5
#: A search that reads at most so many entries of the indexes, of all its shards, is done on the event loop: some 0.3 ms.
SEARCH_INLINE_ENTRIES: Final = 16_384
#: And gives at most so many values, at a µs or two each.
SEARCH_INLINE_VALUES: Final = 256
#: With a filter beside MATCH: so many of the best rows are tested, one by one, before all that match are read.
BEST_FILTERED_ROWS: Final = 320
#: A filter is looked up in an exact index only in shards of so many rows; smaller ones are scanned in less time.
INDEXED_SCAN_ROWS_MIN: Final = 4_096
#: Values of an IN list that an exact index is asked for.
INDEXED_TERMS_MAX: Final = 1_024
#: Longer values are not in an exact index (tantivy's bound of a term, bytes, with some room).
INDEXED_TERM_BYTES_MAX: Final = 65_000
#: A text index of a segment with up to this many bytes of columns is built in memory (``/dev/shm``), a bigger one on disk.
TEXT_BUILD_MEMORY_BYTES_MAX: Final = 64 * MIB
#: Memory that the builds of text indexes in a process may be expected to take together; others wait. A build of more counts half.
TEXT_BUILDS_BYTES_MAX: Final = 2 * 1024 * MIB
#: Builds of less text never wait: they are a refresh's, and take about as much memory as the rows in its buffer.
TEXT_BUILD_SMALL_BYTES: Final = 8 * MIB
#: Merges of a table with full-text indexes do not make bigger segments by themselves: a build keeps the texts in memory.
TEXT_MERGE_BYTES_MAX: Final = 512 * MIB
#: Bytes copied at once from a built text index to its segment.
TEXT_COPY_BYTES: Final = 4 * MIB
#: Views of text indexes a process keeps open, one a shard that is searched: each costs a thread that looks at a file twice a
#: second. The one searched least recently is closed.
TEXT_VIEWS_MAX: Final = 256
#: Words of one MATCH; more are refused.
MATCH_TOKENS_MAX: Final = 1_024
#: How often the handler of a query that takes longer asks the other nodes how their part goes.
RUN_WATCH_S: Final = 1.0
#: How long word of a failure or a cancellation may take to another node before it is given up.
JOB_MESSAGE_TIMEOUT_S: Final = 5.0
#: How long CREATE TABLE waits for its primaries before it answers anyway.
SHARDS_STARTED_WAIT_S: Final = 10.0
#: Pause before a shard is opened or reported again after a failure that may pass.
SHARD_RETRY_S: Final = 1.0
#: A node tells the master of copies it has opened when it opens no more, or after so long; and how many at once.
SHARD_REPORT_GATHER_S: Final = 0.02
SHARD_REPORT_COPIES_MAX: Final = 1_000
#: How long the files of a dropped table wait for statements that still read it.
TABLE_READERS_WAIT_S: Final = 60.0

# --- writes ----------------------------------------------------------------------------------------------------------
#: Rows of one write request to a shard.
WRITE_BATCH_ROWS: Final = 10_000
#: Write requests of one statement on their way at the same time.
WRITE_BATCHES_IN_FLIGHT_MAX: Final = 8
#: New rows an UPDATE by predicate has in memory at once, and how many rows it begins with.
UPDATE_BYTES: Final = 16 * MIB
UPDATE_FIRST_ROWS: Final = 1024
#: Batches up to this many rows are written on the event loop; larger ones on a worker thread.
WRITE_INLINE_ROWS: Final = 16
#: And up to this many bytes.
WRITE_INLINE_BYTES: Final = 256 * KIB
#: Parameter values of a bulk request that are read on the event loop, at a µs each or less; more on a worker thread.
BULK_INLINE_VALUES: Final = 512
#: Parameter values of repeated Binds that came together and are decoded on the event loop while the client sends the next.
PG_EAGER_VALUES: Final = 4_096
#: The ids of so many rows are an Arrow array on their way to the shards; of fewer they are texts.
WRITE_ARRAY_IDS_ROWS: Final = 128
#: Threads that write batches or convert files, all statements together.
WRITE_THREADS_MAX: Final = 4
#: How long a write waits for its primary: routing that is stale, a node that restarts. CrateDB waits a minute.
WRITE_RETRY_TIMEOUT_S: Final = 60.0
#: Pauses between attempts to reach a primary: the first, and the longest.
WRITE_RETRY_FIRST_S: Final = 0.02
WRITE_RETRY_MAX_S: Final = 1.0
#: Outcomes of remote write operations kept for a repeat.
WRITE_OPERATIONS_REMEMBERED: Final = 10_000
#: Rounds of an optimistic update in which no row made progress.
WRITE_CONFLICT_ROUNDS_MAX: Final = 50
#: Rounds of adding columns for new keys of dynamic objects, for one batch.
DYNAMIC_ROUNDS_MAX: Final = 10
#: How long a write waits for the write buffer to shrink, and how often it looks.
WRITE_BUFFER_WAIT_S: Final = 10.0
WRITE_BUFFER_POLL_S: Final = 0.02
#: Nesting of objects in a value; CrateDB's ``mapping.depth.limit``.
OBJECT_DEPTH_MAX: Final = 100
#: Nesting of arrays in a column; Arrow's files end at 64.
ARRAY_DEPTH_MAX: Final = 32
#: Bytes of a file that COPY FROM reads and parses at once, and parsed blocks waiting to be written.
COPY_BLOCK_BYTES: Final = 4 * MIB
COPY_BLOCKS_AHEAD: Final = 4
#: Bytes of one line of a file for COPY FROM.
COPY_LINE_BYTES_MAX: Final = 64 * MIB
#: Files of one COPY FROM.
COPY_FILES_MAX: Final = 100_000
#: ``COPY FROM``'s ``bulk_size``; CrateDB's default.
COPY_BULK_ROWS: Final = 10_000
#: Distinct error messages, and line numbers of each, in ``RETURN SUMMARY``.
COPY_SUMMARY_ERRORS_MAX: Final = 25
COPY_SUMMARY_LINES_MAX: Final = 50
#: Bytes of a text value; CrateDB's limit with an index or column store.
TEXT_BYTES_MAX: Final = 32_766

# --- storage ---------------------------------------------------------------------------------------------------------
#: Bytes of rows not yet in a segment, over all shards of a node; writers wait above it.
WRITE_BUFFER_BYTES_MAX: Final = 512 * MIB
#: Setting ``translog.flush_threshold_size``; CrateDB's default.
TRANSLOG_FLUSH_BYTES: Final = 512 * MIB
TRANSLOG_RECORD_BYTES_MAX: Final = 256 * MIB
#: When nothing has happened for so long after there is a table first, what only data needs is loaded (``docs/architecture``, the
#: start), and after the second time in any case: to load it holds up everything else for a tenth of a second.
LOAD_AFTER_QUIET_S: Final = 1.0
LOAD_AFTER_TABLE_MAX_S: Final = 15.0
#: Clients whose bytes came that are served before the event loop looks at anything else.
CLIENT_EVENTS_PER_TURN: Final = 16
#: How long a thread of Python may compute on when another wants to: the event loop waits this long for a refresh or a big
#: write (Python's own default is ten times as much; below it, changing threads starts to cost).
THREAD_SWITCH_S: Final = 0.0005
#: Space reserved behind a translog's records: as much as it has, within these bounds.
TRANSLOG_RESERVE_BYTES_MIN: Final = 64 * KIB
TRANSLOG_RESERVE_BYTES_MAX: Final = 8 * MIB
#: Records (of less than 16 kB) that wait in memory for the sync that writes them to a translog.
TRANSLOG_GATHERED_MAX: Final = 1_024
#: Setting ``refresh_interval``; CrateDB's default.
REFRESH_INTERVAL_MS: Final = 1_000
#: Setting ``translog.sync_interval``; CrateDB's default.
TRANSLOG_SYNC_INTERVAL_MS: Final = 5_000
#: A shard nobody searched for so long is not refreshed before somebody does; CrateDB's ``index.search.idle.after``.
SEARCH_IDLE_S: Final = 30.0
#: A shard nobody wrote to for so long is flushed; Elasticsearch's ``indices.memory.shard_inactive_time``.
SHARD_INACTIVE_S: Final = 300.0
#: Rows of one block of a segment: of one batch of a scan, and of what statistics are kept for.
SEGMENT_BLOCK_ROWS: Final = 65_536
#: Bytes of the rows of a block, about: blocks of big rows have fewer of them, so that merges and scans stay bounded.
SEGMENT_BLOCK_BYTES: Final = 256 * MIB
#: Columns of a block that a get has read and whose readers (1 to 2 kB) stay; those of more columns live in the column cache.
BLOCK_READERS_MAX: Final = 128
#: Bytes of a shard's manifest; a bigger file is refused before it is read.
MANIFEST_BYTES_MAX: Final = 64 * MIB
#: Bytes of rows a shard may keep in its buffer, however few shards there are; above it a write refreshes first.
SHARD_BUFFER_BYTES_MAX: Final = 128 * MIB
#: The same, however many shards there are.
SHARD_BUFFER_BYTES_MIN: Final = 1 * MIB
#: Bytes of string views and filtered columns kept for scans, over all shards of a node.
COLUMN_CACHE_BYTES_MAX: Final = 512 * MIB
#: Neighbouring segments of like size that are merged into one.
MERGE_SEGMENTS: Final = 8
#: Live bytes and rows of a merge's result; a segment near them is rewritten only for its dead rows. Lucene: 5 GB.
MERGE_BYTES_MAX: Final = 5 * 1024 * MIB
MERGE_ROWS_MAX: Final = 16_000_000
#: Segments up to this size are of the lowest level: joining them costs less than keeping them. Lucene's floor.
MERGE_FLOOR_BYTES: Final = 2 * MIB
#: Setting ``merge.scheduler.max_thread_count``: merges of one shard at a time; and merges of a node.
MERGE_THREADS_MAX: Final = 2
#: Merges of more bytes than this run one at a time on a node, so that small ones never wait for them.
MERGE_SMALL_BYTES_MAX: Final = 64 * MIB
#: What a merge leaves free on the disk beside what it writes, so that logs and refreshes of all shards go on; at most a
#: ``MERGE_SPARE_FRACTION``-th of the disk.
MERGE_SPARE_BYTES: Final = 256 * MIB
MERGE_SPARE_FRACTION: Final = 20
#: Bytes a second that big merges of a node write, together.
MERGE_BYTES_PER_S: Final = 40 * MIB
#: Files that wait to be freed or to be written, of the whole process; what comes on top frees itself at once.
FILE_ERRANDS_MAX: Final = 256
#: Segments of a shard above which a refresh joins small ones itself.
SEGMENTS_MAX: Final = 64
#: How long maintenance waits after a full disk before it tries again by itself.
MAINTENANCE_RETRY_S: Final = 5.0
#: Deletes a copy remembers for replication; above it the older half is forgotten.
TOMBSTONES_MAX: Final = 1_000_000
#: Every copy's durable files are read again this often, the first time so long after it was opened.
SCRUB_INTERVAL_S: Final = 24 * 3_600.0
SCRUB_FIRST_S: Final = 600.0
#: Bytes a second that a node reads for it, and bytes at a time.
SCRUB_BYTES_PER_S: Final = 20 * MIB
SCRUB_CHUNK_BYTES: Final = 1 * MIB
#: If no fsync of a translog ends for so long and others wait, one more thread syncs; and how many more there may be.
COMMIT_PATIENCE_S: Final = 0.005
COMMIT_HELPERS_MAX: Final = 3
#: Callers waiting for group commits of a node.
DURABILITY_WAITERS_MAX: Final = 65_536

# --- cluster ---------------------------------------------------------------------------------------------------------
#: Dropped tables whose uuids the cluster state remembers, so that a node that was away knows which of its files may go.
DROPPED_TABLES_MAX: Final = 500
#: Commands waiting at the master for the next publication.
MASTER_QUEUE_MAX: Final = 10_000
#: Commands put into one publication.
MASTER_BATCH_MAX: Final = 1_000
#: How long a publication of nothing but started shards waits for word of the other shards of their tables.
STARTED_SHARDS_GATHER_S: Final = 0.005
#: Attempts to bring back a shard copy that fails again and again; CrateDB's ``allocation.max_retries``.
ALLOCATION_RETRIES_MAX: Final = 5
#: Setting ``cluster.max_shards_per_node``; CrateDB's default.
SHARDS_PER_NODE_MAX: Final = 1_000
#: How often a node that looks for a master in vain says whom it has found and whom not.
NO_MASTER_TOLD_S: Final = 10.0
#: Addresses that it names then.
NO_MASTER_TOLD_MAX: Final = 10
#: Peers a node asks or answers about at the same time, and seed hosts it is given.
DISCOVERY_PEERS_MAX: Final = 1_000
#: Events waiting for the coordination core of a node; more means that it is stuck.
COORDINATION_QUEUE_MAX: Final = 20_000
#: Coordination messages kept of a node that this one is still connecting to.
COORDINATION_HELD_MAX: Final = 64
#: A command is refused when no master has been known for that long.
NO_MASTER_PATIENCE_S: Final = 1.0
#: How long a node that stops tries to tell the master.
LEAVE_TIMEOUT_S: Final = 1.0
#: How long a decommissioned node goes on, so that its answer reaches who asked.
DECOMMISSION_ANSWER_S: Final = 0.2
#: How long a decommissioned node may take to leave the cluster.
NODE_STOP_TIMEOUT_S: Final = 60.0
#: How long a master that is asked to step down may take until another one is there.
STEP_DOWN_TIMEOUT_S: Final = 5.0
#: A master that is still there after this is asked again: one that was between two terms has not heard.
STEP_DOWN_PATIENCE_S: Final = 0.5
#: The state log is written anew when its changes have outgrown its first record by this.
STATE_LOG_BYTES_MIN: Final = 1 * MIB
#: Space the state log keeps reserved behind its end, so that tables can be dropped when rows have filled the disk.
STATE_LOG_RESERVE_BYTES: Final = 1 * MIB
#: Between two attempts to write the cluster state to a disk that is full.
STATE_LOG_RETRY_S: Final = 0.5
#: How long a client's DDL waits for the commit.
DDL_TIMEOUT_S: Final = 30.0

#: Longer patterns are refused: to compile one takes a microsecond or more a character, and nobody can stop it.
REGEX_PATTERN_CHARS_MAX: Final = 32_768
LIKE_PATTERN_CHARS_MAX: Final = MIB
#: Time one match of a regular expression may take: a quarter of a second and a microsecond per character of the text.
REGEX_S: Final = 0.25
REGEX_CHARACTER_S: Final = 0.000_001
#: What an analyzer may make of one text in all its steps: words (and matches), characters of all of them together.
ANALYSIS_TOKENS_MAX: Final = 4_000_000
ANALYSIS_CHARACTERS_MAX: Final = 128 * MIB
#: Filters of an analyzer that CREATE ANALYZER makes, of each kind.
ANALYZER_FILTERS_MAX: Final = 64
#: An index that is built waits for an expression so many times as long as the statement that wrote the text.
ANALYSIS_BUILD_PATIENCE: Final = 4.0
