"""The transform room: columns and specs to arrays, and the features that say how."""
