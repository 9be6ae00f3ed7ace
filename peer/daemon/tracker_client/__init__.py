"""Who is logged in, what the tracker is told and asked."""
