"""Plots of schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastopt._util.validation import FunctionOfStep, any_number, function_of_step, positive_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_schedule(schedule: FunctionOfStep, steps: int) -> Figure:
    """Plot the first steps of a schedule with matplotlib.

    Parameters
    ----------
    schedule : callable
        A schedule or another function of the step.
    steps : int
        Number of steps to plot, >= 1.

    Returns
    -------
    matplotlib.figure.Figure
        A new figure, which is not registered with pyplot: save it with ``figure.savefig(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or ``schedule`` returns something other than a number.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastopt.schedules import Cosine, plot_schedule
    >>> figure = plot_schedule(Cosine(0.1, decay_steps=1000), steps=1200)
    >>> figure.savefig("schedule.png")  # doctest: +SKIP
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  optional dependency

    figure = Figure()
    draw_schedule(figure, schedule, steps)
    return figure


def draw_schedule(figure: Figure, schedule: FunctionOfStep, steps: int) -> None:
    """Draw the first steps of a schedule into an empty figure."""
    function_of_step("schedule", schedule)
    positive_count("steps", steps)
    figure.set_size_inches(6.4, 3.2)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.plot(range(steps), [any_number(f"schedule({step})", schedule(step)) for step in range(steps)])
    axes.set(xlabel="step", ylabel="value", title=repr(schedule), xlim=(0, max(steps - 1, 1)))
    axes.title.set_fontsize(8)
    axes.grid(alpha=0.3)
