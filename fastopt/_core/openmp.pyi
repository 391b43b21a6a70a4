parallel_for: object
