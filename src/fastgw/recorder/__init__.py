"""The reading side of the record spool."""
