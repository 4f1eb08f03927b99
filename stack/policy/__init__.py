"""Route policy: lists, route maps, and their compiled form. Pure: engines import it."""
