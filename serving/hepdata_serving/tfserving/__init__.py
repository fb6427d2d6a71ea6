"""TF Serving: SavedModels on raw events, server configs, and a server with the same routes."""
