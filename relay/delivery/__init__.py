"""One tenant's delivery: its worker, concurrent posts, and what is settled; it knows ports only."""
