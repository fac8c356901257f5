"""The way out: connections to providers, their pools, and which target a call takes."""
