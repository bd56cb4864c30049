"""SQL handler: statement text + cluster state → plan. A pure, synchronous compiler; it never does IO."""
