"""Early stopping: the rules, the copy of the parameters, the state."""

from __future__ import annotations

import copy
import itertools
import json
import math

import numpy as np
import pytest
from cases import layouts, same_bits, start_values

import fastopt
from fastopt.batches import batches
from fastopt.early_stopping import EarlyStopping

NAN = math.nan
OPTIONS = [
    {},
    {"patience": 1},
    {"patience": 2},
    {"patience": 2, "min_delta": 0.5},
    {"patience": 2, "mode": "max"},
    {"patience": 3, "mode": "max", "min_delta": 0.25},
    {"patience": 2, "start_from_epoch": 1},
    {"patience": 2, "start_from_epoch": 4},
    {"patience": 2, "start_from_epoch": 100},
]
METRICS = [
    [3, 2, 1, 0, -1, -2],
    [3, 2, 2, 2, 2, 1],
    [1, 2, 3, 4, 5, 6],
    [1, 0.75, 0.5, 0.25, 0.0, -0.5, -1],
    [NAN, NAN, 1, NAN, 0.5, NAN, NAN, NAN],
    [NAN, NAN, NAN],
    [math.inf, -math.inf, math.inf, -math.inf, 0],
    [0.1, 5, 4, 3, 3, 3, 2, 9, 9, 9],
    [1, 1, 1, 0, 1, 1, 1],
]


def expected_results(metrics, patience=10, min_delta=0.0, mode="min", start_from_epoch=0):
    """Return what each update returns, and the best epoch so far, computed from the whole sequence."""
    stops, bests = [], []
    for end in range(1, len(metrics) + 1):
        best, waited = None, 0
        for epoch in range(start_from_epoch, end):
            gain = 0 if best is None else metrics[best] - metrics[epoch]
            if mode == "max":
                gain = -gain
            worst = math.inf if mode == "min" else -math.inf
            first = best is None and not math.isnan(metrics[epoch]) and metrics[epoch] != worst
            if first or gain > min_delta:
                best, waited = epoch, 0
            else:
                waited += 1
        stops.append(waited >= patience)
        bests.append(best)
    return stops, bests


@pytest.mark.parametrize("metrics", METRICS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_update_follows_the_rules(options, metrics):
    stops, bests = expected_results(metrics, **options)
    early_stopping, params = EarlyStopping(**options), np.zeros(3)
    for epoch, metric in enumerate(metrics):
        params[:] = epoch
        assert early_stopping.update(metric, params) is early_stopping.stopped is stops[epoch]
        assert (early_stopping.epochs, early_stopping.best_epoch) == (epoch + 1, bests[epoch])
        restored = np.full(3, -1.0)
        if bests[epoch] is None:
            with pytest.raises(RuntimeError, match=rf"no parameters to restore: none of {epoch + 1} epochs"):
                early_stopping.restore(restored)
            assert restored.tolist() == [-1] * 3
        else:
            assert early_stopping.best == metrics[bests[epoch]]
            early_stopping.restore(restored)
            assert restored.tolist() == [bests[epoch]] * 3


def test_stopping_epochs_of_short_sequences():
    def epochs(metrics, **options):
        early_stopping = EarlyStopping(**options)
        return next((i for i, m in enumerate(metrics) if early_stopping.update(m, np.zeros(1))), None)

    assert epochs([3, 2, 2, 2, 2], patience=2) == 3
    assert epochs([3, 2, 2, 2, 2], patience=3) == 4
    assert epochs([3, 2, 2, 2, 2], patience=4) is None
    assert (
        epochs([1, 0.75, 0.5, 0.25], patience=1, min_delta=0.25) == 1
    )  # an improvement by exactly min_delta does not count
    assert epochs([0, 9, 9, 9, 8, 8, 8], patience=2, start_from_epoch=1) == 3  # the first 0 does not count
    assert epochs([1, 2, 1, 1], patience=2, mode="max") == 3
    assert epochs([NAN, NAN, 1], patience=2) == 1


def keras_stops(metrics, patience, min_delta, mode, start_from_epoch):
    """Return whether Keras's ``EarlyStopping`` stops after each epoch, if it had not stopped before."""
    sign = 1 if mode == "max" else -1
    best, wait, stops = -sign * math.inf, 0, []
    for epoch, current in enumerate(metrics):
        improved, waiting = sign * (current - sign * min_delta) > sign * best, epoch < start_from_epoch
        if not waiting:
            best, wait = (current, 0) if improved else (best, wait + 1)
        stops.append(not waiting and not improved and wait >= patience and epoch > 0)
    return stops


@pytest.mark.parametrize("mode", ["min", "max"])
def test_stopping_epochs_match_keras(mode):
    rng = np.random.default_rng(0)
    ends = 0
    for patience, min_delta, start in itertools.product([1, 2, 4], [0, 0.1, 0.3, 1.0, 1e300], [0, 1, 5]):
        for values in (rng.integers(-5, 5, 30) / 10, rng.choice([math.inf, -math.inf, NAN, 1e300, -1.0, 0.5], 30)):
            early_stopping = EarlyStopping(patience, min_delta=min_delta, mode=mode, start_from_epoch=start)
            found = [early_stopping.update(metric, []) for metric in values]
            assert [stop and epoch > 0 for epoch, stop in enumerate(found)] == keras_stops(
                values.tolist(), patience, min_delta, mode, start
            )
            ends += any(found)
    assert ends > 50


def test_infinite_metrics():
    """The worst infinity is never better, the best one once; a large min_delta does not make them NaN."""
    early_stopping = EarlyStopping(min_delta=1e300)
    found = [
        (early_stopping.update(metric, []), early_stopping.best_epoch)[1]
        for metric in (math.inf, NAN, 3.0, -1e299, -math.inf, -math.inf, 0.0)
    ]
    assert found == [None, None, 2, 2, 4, 4, 4]


def test_averages_of_groups_can_be_watched_and_restored():
    params = [{"w": np.ones(3)}, [np.ones((2, 2), np.float32)]]
    optimizer = fastopt.SGD([{"params": params[0]}, {"params": params[1]}], lr=1.0, ema_decay=0.5)
    early_stopping = EarlyStopping()
    for metric in (1.0, 2.0):
        optimizer.step([{"w": np.ones(3)}, [np.ones((2, 2), np.float32)]])
        early_stopping.update(metric, optimizer.ema)
    early_stopping.restore(params)
    assert (params[0]["w"] == 0.5).all()
    assert (params[1][0] == 0.5).all()
    early_stopping.restore(optimizer.ema)
    assert (optimizer.ema[0]["w"] == 0.5).all()


def test_no_parameters_can_be_watched():
    early_stopping = EarlyStopping(2)
    assert [early_stopping.update(metric, []) for metric in (1.0, 2.0, 3.0)] == [False, False, True]
    early_stopping.restore([])
    assert early_stopping.state_dict()["params"] == []


@pytest.mark.parametrize("metric", [1, 1.0, np.float32(1), np.float64(1), np.int64(1), np.array(1.0)], ids=repr)
def test_update_accepts_any_real_number(metric):
    early_stopping = EarlyStopping()
    early_stopping.update(metric, np.zeros(1))
    assert type(early_stopping.best) is float


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("kind", layouts(40))
def test_restore_writes_the_best_parameters_in_place_bit_for_bit(kind, real):
    make, read = layouts(40)[kind]
    values = start_values(40, real)
    values[:4] = [np.nan, -0.0, np.inf, np.finfo(real).tiny / 8]
    params = make(values)
    arrays = params.buffer if kind == "Flat" else params
    early_stopping = EarlyStopping()
    early_stopping.update(2.0, params)
    read_in_place(params)[0][...] = 7
    early_stopping.update(3.0, params)
    early_stopping.restore(params)
    assert same_bits(read(params), values)
    assert (params.buffer if kind == "Flat" else params) is arrays
    read_in_place(params)[0][...] = 8
    better = read(params).copy()
    early_stopping.update(1.0, params)
    read_in_place(params)[0][...] = 9
    early_stopping.restore(params)
    assert same_bits(read(params), better)
    assert not any(
        np.shares_memory(own, array)
        for own in arrays_of(early_stopping._best_params)
        for array in read_in_place(params)
    )


def arrays_of(plain):
    """Return the arrays of a copy."""
    return list(plain.values()) if isinstance(plain, dict) else plain if isinstance(plain, list) else [plain]


def read_in_place(params):
    """Return the arrays of parameters."""
    return list(params.values()) if hasattr(params, "values") else list(params) if len(params) == 2 else [params]


def train(early_stopping, optimizer, params, epochs):
    """Train on a problem whose validation loss rises in the end."""
    rng, x = np.random.default_rng(7), np.linspace(-1, 1, 32, dtype=np.float32)
    noise = rng.normal(0, 0.3, (2, 32)).astype(np.float32)
    for epoch in epochs:
        for rows in batches(np.arange(32), batch_size=8, seed=2, epoch=epoch):
            powers = x[rows, None] ** np.arange(9, dtype=np.float32)
            error = powers @ params["w"] + params["b"] - (x + noise[0])[rows]
            optimizer.step(type(params)({"w": powers.T @ error / 8, "b": error.mean(keepdims=True)}))
        fit = x[:, None] ** np.arange(9, dtype=np.float32) @ params["w"] + params["b"]
        if early_stopping.update(float(((fit - x - noise[1]) ** 2).mean()), params):
            return epoch
    return None


@pytest.mark.parametrize("interrupted", [1, 3, 4, 10, 14])
@pytest.mark.parametrize("kind", ["Flat", "mapping"])
def test_resumed_run_is_bit_identical(interrupted, kind):
    def start():
        params = fastopt.Flat({"w": 9, "b": 1})
        if kind == "mapping":
            params = {name: view.copy() for name, view in params.items()}
        return params, fastopt.Adam(params, lr=0.05), EarlyStopping(patience=5, min_delta=1e-5, start_from_epoch=3)

    params, optimizer, early_stopping = start()
    end = train(early_stopping, optimizer, params, range(200))
    assert end is not None
    assert end > 14
    again, *others = start()
    train(others[1], others[0], again, range(interrupted))
    saved = copy.deepcopy([dict(again), others[0].state_dict(), others[1].state_dict()])
    resumed, *others = start()
    for name, array in saved[0].items():
        resumed[name][:] = array
    others[0].load_state_dict(saved[1])
    others[1].load_state_dict(saved[2])
    assert train(others[1], others[0], resumed, range(others[1].epochs, 200)) == end
    np.testing.assert_equal(others[1].state_dict(), early_stopping.state_dict())
    for each, own in ((early_stopping, params), (others[1], resumed)):
        each.restore(own)
    assert all(same_bits(resumed[name], params[name]) for name in ("w", "b"))


@pytest.mark.parametrize("kind", layouts(40))
def test_state_dict_is_a_copy_in_plain_types(kind, tmp_path):
    make, read = layouts(40)[kind]
    params, early_stopping = make(start_values(40, np.float32)), EarlyStopping(3)
    wanted = read(params).copy()
    assert early_stopping.state_dict() == {
        "best": math.inf,
        "best_epoch": None,
        "epochs": 0,
        "bad_epochs": 0,
        "params": None,
    }
    early_stopping.update(1.5, params)
    early_stopping.update(2.5, params)
    state = early_stopping.state_dict()
    kept = state.pop("params")
    assert type(kept) in (dict, list, np.ndarray)
    assert {type(array) for array in arrays_of(kept)} == {np.ndarray}
    assert json.loads(json.dumps(state)) == {"best": 1.5, "best_epoch": 0, "epochs": 2, "bad_epochs": 1}
    other = EarlyStopping(3)
    other.load_state_dict({**json.loads(json.dumps(state)), "params": kept})
    for array in arrays_of(kept):
        array[...] = -5  # both have copies
    for each in (early_stopping, other):
        read_in_place(params)[0][...] = 7
        each.restore(params)
        assert same_bits(read(params), wanted)


W, B = np.ones((2, 3), np.float32), np.ones(3, np.float32)


def test_load_replaces_any_state():
    one, other = EarlyStopping(), EarlyStopping()
    one.update(1.0, W)
    other.update(3.0, {"b": B})
    other.load_state_dict(one.state_dict())
    np.testing.assert_equal(other.state_dict(), one.state_dict())
    other.load_state_dict(EarlyStopping().state_dict())
    assert other.state_dict() == EarlyStopping().state_dict()
    assert other.update(2.0, {"b": B}) is False


def test_deepcopy_and_repr():
    early_stopping = EarlyStopping(3, mode="max")
    early_stopping.update(1.0, W)
    twin = copy.deepcopy(early_stopping)
    early_stopping.update(2.0, 3 * W)
    assert (twin.best, twin.best_epoch) == (1.0, 0)
    assert repr(twin).startswith(
        "EarlyStopping(patience=3, min_delta=0.0, mode='max', start_from_epoch=0, best=1.0, best_epoch=0"
    )
