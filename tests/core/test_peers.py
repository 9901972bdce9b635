"""Several arenas in one process act as nodes: tasks, values and ids go from one to the other by hand."""
