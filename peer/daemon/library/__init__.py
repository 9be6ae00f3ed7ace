"""What this peer holds, and how it notices changes."""
