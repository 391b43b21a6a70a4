"""Early stopping: the rules, the copy of the parameters, the state."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from cases import layouts, same_bits, start_values

import fastopt
from fastopt.batches import batches
from fastopt.early_stopping import EarlyStopping
from fastopt.optimizers._param_tree import plain

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


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EarlyStopping(0), ValueError, "patience must be an int >= 1, got 0"),
        (lambda: EarlyStopping(2.0), TypeError, "patience must be .*, got 2.0"),
        (lambda: EarlyStopping(min_delta=-0.1), ValueError, "min_delta must be a finite number >= 0, got -0.1"),
        (lambda: EarlyStopping(min_delta=math.inf), ValueError, "min_delta must be .*, got inf"),
        (lambda: EarlyStopping(mode="auto"), ValueError, "mode must be 'min' or 'max', got 'auto'"),
        (lambda: EarlyStopping(start_from_epoch=-1), ValueError, "start_from_epoch must be .*, got -1"),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_invalid_arguments_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


W, B = np.ones((2, 3), np.float32), np.ones(3, np.float32)
# parameters of the first update, then those that update and restore must reject
OTHERS = {
    "shape": (
        {"w": W, "b": B},
        {"w": W, "b": B[:2]},
        ValueError,
        r"params\['b'\] must be float32 of shape \(3,\), got float32 of \(2,\)",
    ),
    "dtype": (
        {"w": W, "b": B},
        {"w": W, "b": B.astype(float)},
        ValueError,
        r"params\['b'\] must be float32 .*, got float64",
    ),
    "names": ({"w": W, "b": B}, {"w": W}, ValueError, r"params must have the names \['w', 'b'\], got \['b'\] missing"),
    "kind": ({"w": W, "b": B}, [W, B], TypeError, "params must be a mapping .*, got 'list'"),
    "count": ([W, B], [W], ValueError, "params must have 2 items .*, got 1"),
    "list": ([W, B], W, TypeError, "params must be a list or tuple .*, got 'ndarray'"),
    "one array, got a list with it": (W[:1], [W[0]], TypeError, "params must be an array, got 'list'"),
    "one array": (W, [W], TypeError, "params must be an array, got 'list'"),
    "masked": (
        {"w": W, "b": B},
        {"w": W, "b": np.ma.array(B)},
        TypeError,
        r"params\['b'\] must be an array without a mask",
    ),
    "integers": (
        {"w": W, "b": B},
        {"w": W, "b": B.astype(int)},
        TypeError,
        r"params\['b'\] must have dtype .*, got int64",
    ),
    "layout": ({"w": W, "b": B}, {"w": np.asfortranarray(W), "b": B}, ValueError, r"\['w'\] must be C-contiguous"),
    "no array": ({"w": W, "b": B}, {"w": W, "b": 1.0}, TypeError, r"params\['b'\] must be an array .*, got 'float'"),
    "Flat": (
        fastopt.Flat({"w": 2}),
        fastopt.Flat({"v": 2}),
        ValueError,
        r"params must have .*, got \['w'\] missing and \['v'\] extra",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_parameters_of_another_form_change_nothing(case):
    kept, others, error, message = OTHERS[case]
    early_stopping = EarlyStopping()
    early_stopping.update(2.0, kept)
    before, values = early_stopping.state_dict(), plain(others)
    for call in (
        lambda: early_stopping.update(1.0, others),
        lambda: early_stopping.update(3.0, others),
        lambda: early_stopping.restore(others),
    ):
        with pytest.raises(error, match=message):
            call()
        np.testing.assert_equal(early_stopping.state_dict(), before)
        np.testing.assert_equal(plain(others), values)


def test_invalid_metrics_and_parameters_raise():
    early_stopping, fixed = EarlyStopping(), {"w": W.copy(), "b": read_only(2 * B)}
    for metric in ("1", None, True, [1.0], 1j, np.timedelta64(1, "s")):
        with pytest.raises(TypeError, match=r"metric must be a number, got .*"):
            early_stopping.update(metric, W)
    for params in (3.0, {"w": 1}, [W, "b"], W.astype(int)):
        with pytest.raises(TypeError, match="params"):
            early_stopping.update(1.0, params)
    with pytest.raises(ValueError, match=r"params\[[01]\] and params\[[01]\] overlap in memory"):
        early_stopping.update(1.0, [W, W])
    assert early_stopping.state_dict() == EarlyStopping().state_dict()
    early_stopping.update(1.0, fixed)  # to be read, it need not be writable
    fixed["w"] *= 5
    with pytest.raises(ValueError, match=r"params\['b'\] must be writable"):
        early_stopping.restore(fixed)
    assert (fixed["w"] == 5).all()


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


def test_load_replaces_any_state():
    one, other = EarlyStopping(), EarlyStopping()
    one.update(1.0, W)
    other.update(3.0, {"b": B})
    other.load_state_dict(one.state_dict())
    np.testing.assert_equal(other.state_dict(), one.state_dict())
    other.load_state_dict(EarlyStopping().state_dict())
    assert other.state_dict() == EarlyStopping().state_dict()
    assert other.update(2.0, {"b": B}) is False


INVALID_STATES = [
    ({"best": None}, TypeError, r"state_dict\['best'\] must be .*, got None"),
    ({"best": NAN}, ValueError, r"state_dict\['best'\] must be a number, not NaN, got nan"),
    ({"best_epoch": -1}, ValueError, r"state_dict\['best_epoch'\] must be .*, got -1"),
    ({"best_epoch": None}, ValueError, r"\['params'\] must be None if .*, got 'dict' with best_epoch None"),
    ({"epochs": 1.5}, TypeError, r"state_dict\['epochs'\] must be .*, got 1.5"),
    ({"bad_epochs": True}, TypeError, r"state_dict\['bad_epochs'\] must be .*, got True"),
    ({"params": None}, ValueError, r"\['params'\] must be None if .*, got 'NoneType' with best_epoch 0"),
    ({"params": {"w": [1.0]}}, TypeError, r"state_dict\['params'\]\['w'\]\[0\] must be an array .*, got 'float'"),
    ({"params": {"w": np.ma.array(W)}}, TypeError, r"state_dict\['params'\]\['w'\] must be an array without a mask"),
    ({"params": 1.0}, TypeError, r"state_dict\['params'\] must be an array .*, got 'float'"),
    ({"best_epoch": 7}, ValueError, r"state_dict must have best_epoch \+ 1 \+ bad_epochs <= epochs .*, got"),
    ({"bad_epochs": 1}, ValueError, r"state_dict must have best_epoch \+ 1 \+ bad_epochs <= epochs .*, got"),
    (
        {"patience": 3},
        ValueError,
        r"state_dict must have the keys \['bad_epochs', 'best', .*, got \[\] missing and \['patience'\] extra",
    ),
    (
        {"params": None, "best_epoch": None, "epochs": 0, "bad_epochs": 7},
        ValueError,
        r"state_dict must have best_epoch \+ 1 \+ bad_epochs <= epochs \(None counts as -1\), got .*'bad_epochs': 7",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), INVALID_STATES, ids=str)
def test_invalid_state_changes_nothing(change, error, message):
    early_stopping, other = EarlyStopping(), EarlyStopping()
    early_stopping.update(1.0, {"w": W, "b": B})
    other.update(5.0, {"w": 2 * W, "b": 2 * B})
    before = early_stopping.state_dict()
    for state in ([], {**other.state_dict(), **change}):
        with pytest.raises(error if state else TypeError, match=message if state else "state_dict must be a mapping"):
            early_stopping.load_state_dict(state)
        np.testing.assert_equal(early_stopping.state_dict(), before)


def test_deepcopy_and_repr():
    early_stopping = EarlyStopping(3, mode="max")
    early_stopping.update(1.0, W)
    twin = copy.deepcopy(early_stopping)
    early_stopping.update(2.0, 3 * W)
    assert (twin.best, twin.best_epoch) == (1.0, 0)
    assert repr(twin).startswith(
        "EarlyStopping(patience=3, min_delta=0.0, mode='max', start_from_epoch=0, best=1.0, best_epoch=0"
    )
