"""Images before a registration: intensity scaling, image pyramids, the pair, its landmarks."""
