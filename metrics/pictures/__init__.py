"""Which pictures are scored, and how they are made or read: generated, finished and real ones."""
