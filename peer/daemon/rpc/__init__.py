"""Who may call what; calls in, answers out."""
