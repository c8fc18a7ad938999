"""Live sources: each is a job around the client of its vendor."""
