from typing import Any, NamedTuple

class Kernel(NamedTuple):
    row: int
    streams: tuple[str, ...]
    coefficients: tuple[str, ...]

KERNELS: dict[str, Kernel]
CHUNK: int
OPENMP: int
COMPILER: str

def isas() -> list[str]: ...
def isa() -> str: ...
def use_isa(i: int) -> None: ...
def use_threads(count: int, elements: int) -> None: ...
def power(base: float, exponent: int) -> float: ...
def refuse_mask(array: object, name: str) -> None: ...
def look_at(param: Any, name: str, suffix: str) -> tuple[tuple[int, ...], str]: ...

class Plan:
    coefficients: list[list[str]]
    def __init__(
        self,
        groups: list[tuple[tuple[str, ...], list[tuple[str, dict[str, Any]]]]],
        arguments: dict[str, str],
    ) -> None: ...
    def step(
        self,
        grads: list[Any],
        coefficients: list[list[float]],
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        measure: bool = False,
        regardless: bool = False,
    ) -> float | None: ...
