"""What the relay serves: health, metrics, the operator's page, and ION's own calls."""
