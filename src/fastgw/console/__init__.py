"""The console: status page, metrics and log level, in a process of its own; `python -m fastgw.console JOB`."""
