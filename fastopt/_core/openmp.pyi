parallel_for: object
__test__: dict[str, str]
