"""Images before a registration: intensity scaling, image pyramids and the pair."""
