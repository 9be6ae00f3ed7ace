"""Messages, payload, errors; the two ends of a stream."""
