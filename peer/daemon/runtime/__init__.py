"""The base of the daemon: threads, tasks, transfers, metrics, settings, logs and memory."""
