"""Hot state of one node: the shared table and the record spool."""
