"""What this peer's own user asks for."""
