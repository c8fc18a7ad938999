"""Bundles: written whole, checked on reading, and enough to forecast without TensorFlow."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from backsight_features.errors import BadInput, HeaderMismatch, Missing
from backsight_features.workspace import Workspace
from backsight_model import bundle, proof
from backsight_model.forecast import estimate, forecast
from backsight_model.manifest import Manifest, features_digest
from backsight_model.promotion import note, promote
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet
from backsight_model.verdict import Verdict
from backsight_model.walk import Fitted, final

pytestmark = pytest.mark.slow

SMALL = Settings(members=2, epochs=1, units=4, projection=4)
DAY = timedelta(hours=24)
NOON = datetime(2023, 2, 10, 12, tzinfo=UTC)


def manifest(data: TrainingSet) -> Manifest:
    return Manifest(
        series=["bitstamp:BTC-USD:1h"],
        service="forecast_1h",
        features_sha256=features_digest(data.windows.features),
        length=data.windows.index.shape[1],
        horizon=data.horizon,
        further=list(data.further),
        seed=1,
        ingested_until="2024-01-01T00:00:00+00:00",
        first_at="2023-01-01T00:00:15+00:00",
        last_at="2023-12-31T00:00:15+00:00",
        lake_versions={"bars": 3, "macro": None},
        feature_versions={"market_1h": 0},
        scorer="words@1",
        code="0.1.0",
        samples=len(data),
        sha256=data.sha256(),
    )


def verdict(p_value: float) -> Verdict:
    comparison = proof.Comparison(
        model="LSTM", reference="HAR", count=9, loss=1, reference_loss=2, gain=1, low=0, high=2, p_value=p_value,
        detectable=1,
    )  # fmt: skip
    missed = (replace(comparison, p_value=0.9),)
    claims = proof.judge({"volatility": (comparison,), "direction": missed, "return": missed})
    signs = proof.Directional(accuracy=0.5, statistic=0, p_value=1, detectable=0.1)
    return Verdict(claims=claims, comparisons={}, directional=signs)


@pytest.fixture(scope="module")
def data(world: Callable[..., TrainingSet]) -> TrainingSet:
    return world(4, hours=1100, length=12, further=(6,))


@pytest.fixture(scope="module")
def fitted(data: TrainingSet) -> Fitted:
    return final(data, embargo=DAY, settings=SMALL, seed=1)


def write(models: Path, data: TrainingSet, fitted: Fitted, p_value: float) -> Path:
    return bundle.write(
        models,
        fitted,
        manifest=manifest(data),
        settings=SMALL,
        timeframe=timedelta(hours=1),
        verdict=verdict(p_value),
    )


@pytest.fixture(scope="module")
def written(data: TrainingSet, fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models"), data, fitted, 0.001)


@pytest.fixture(scope="module")
def unproven(data: TrainingSet, fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models"), data, fitted, 0.9)


@dataclass(frozen=True)
class Window:
    """What the store hands out, as far as a forecast needs it."""

    symbol: str
    features: tuple[str, ...]
    timeframe: timedelta
    values: np.ndarray
    at: datetime
    observed_at: datetime
    available_at: datetime


@pytest.fixture(scope="module")
def window(data: TrainingSet) -> Window:
    closed = datetime(2023, 2, 10, 7, tzinfo=UTC)
    return Window(
        symbol="BTC-USD",
        features=data.windows.features,
        timeframe=timedelta(hours=1),
        values=data.windows.gather(slice(-1, None))[0],
        at=closed + timedelta(minutes=2),
        observed_at=closed,
        available_at=closed + timedelta(seconds=15),
    )


def test_onnx_forecasts_what_keras_does(data: TrainingSet, fitted: Fitted, written: Path) -> None:
    read = bundle.read(written)
    some = np.arange(0, len(data), 17)
    rows = fitted.scaler.transform(data.windows.rows)
    by_keras = fitted.network.predict(rows, data.windows.index[some])
    by_onnx = read.run(rows[data.windows.index[some]])
    np.testing.assert_allclose(by_onnx, by_keras, atol=1e-5)
    expected, soon = estimate(read, data.windows.gather(some[:1])[0], name="x")
    newest = rows[data.windows.index[some[:1], -1]]
    harx = fitted.harx.predict(newest, data.windows.features)[0]
    assert expected.log_rv == pytest.approx(harx + fitted.residual_scale * by_keras[0, 0], abs=1e-5)
    np.testing.assert_allclose(list(expected.quantiles.values()), np.exp(0.5 * harx) * by_keras[0, 2:9], atol=1e-6)
    assert (np.diff(by_onnx[:, 2:9], axis=1) >= 0).all()
    assert (np.diff(by_onnx[:, 11:], axis=1) >= 0).all()
    (lines,) = fitted.further
    harx = lines.harx.predict(newest, data.windows.features)[0]
    assert soon.horizon == timedelta(hours=6)
    assert soon.log_rv == pytest.approx(harx + lines.residual_scale * by_keras[0, 9], abs=1e-5)
    assert soon.p_up == pytest.approx(1 / (1 + np.exp(-by_keras[0, 10])), abs=1e-6)
    np.testing.assert_allclose(list(soon.quantiles.values()), np.exp(0.5 * harx) * by_keras[0, 11:], atol=1e-6)
    assert expected.p_up == pytest.approx(1 / (1 + np.exp(-by_keras[0, 1])), abs=1e-6)


def test_how_the_inputs_were_distributed_is_kept_by_symbol(data: TrainingSet, fitted: Fitted, written: Path) -> None:
    kept, newest = bundle.read(written).inputs, data.windows.rows[data.windows.index[-300:, -1]]
    assert list(kept) == ["BTC-USD"]
    assert kept["BTC-USD"].features == data.windows.features
    [seen, again] = [one["BTC-USD"].against(newest, since=data.at[-300]) for one in (fitted.inputs, kept)]
    assert seen == again
    assert (written / "bundle.json").stat().st_size < 400_000


def test_the_document_says_what_it_was_learnt_from(data: TrainingSet, written: Path) -> None:
    document = json.loads((written / "bundle.json").read_text())
    assert document["manifest"]["sha256"] == data.sha256()
    assert document["features"] == list(data.windows.features)
    assert document["proven"] == {"volatility": True, "direction": False, "return": False}
    assert "after the walk-forward proof" in document["fitted_on"]
    assert sorted(path.name for path in written.iterdir()) == ["bundle.json", "model.keras", "model.onnx", "probe.npz"]


@pytest.mark.parametrize("file", ["model.keras", "model.onnx", "probe.npz"])
def test_a_changed_file_is_refused(written: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(BadInput, match=f"{file} was changed"):
        bundle.read(folder)


def test_a_changed_document_is_refused(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    document = json.loads((folder / "bundle.json").read_text())
    document["proven"]["direction"] = True
    (folder / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match=r"bundle.json was changed"):
        bundle.read(folder)


def test_an_absent_file_is_named(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    (folder / "model.onnx").unlink()
    with pytest.raises(BadInput, match=r"model\.onnx"):
        bundle.read(folder)


def used(models: Path) -> str:
    return str(json.loads((models / "current.json").read_text())["BTC-USD"]["bundle"])


def test_only_what_has_skill_is_promoted(written: Path, unproven: Path, tmp_path: Path) -> None:
    proven, plain = shutil.copytree(written, tmp_path / "proven"), shutil.copytree(unproven, tmp_path / "plain")
    with pytest.raises(BadInput, match=f"{unproven.name} has no proven skill; train again, or give a reason"):
        bundle.promote(tmp_path, plain)
    with pytest.raises(Missing, match="no model is in use yet"):
        bundle.current(tmp_path, "BTC-USD")
    assert bundle.promote(tmp_path, proven).override is None
    assert used(tmp_path) == proven.name
    with pytest.raises(BadInput, match="no proven skill"):
        bundle.promote(tmp_path, plain)
    assert used(tmp_path) == proven.name
    with pytest.raises(Missing, match="there are models for BTC-USD"):
        bundle.current(tmp_path, "ETH-USD")
    with pytest.raises(BadInput, match="there is no bundle nothing"):
        bundle.promote(tmp_path, tmp_path / "nothing")
    with pytest.raises(BadInput, match="there is no bundle"):
        bundle.promote(tmp_path, written)


def test_an_override_is_kept_in_the_bundle_and_said_by_each_forecast(
    unproven: Path, window: Window, tmp_path: Path
) -> None:
    workspace = Workspace(root=tmp_path)
    folder = Path(shutil.copytree(unproven, workspace.models / unproven.name))
    for blank in ("", " \n"):
        with pytest.raises(BadInput, match="reason of an override is blank"):
            promote(workspace, folder, reason=blank, now=NOON)
    promoted, report = promote(workspace, folder, reason="to try\n the service", now=NOON)
    assert report is None, "there is none to note it in"
    assert promoted.override == bundle.Override(reason="to try the service", at="2023-02-10T12:00:00+00:00")
    assert used(workspace.models) == folder.name
    read = bundle.current(workspace.models, "BTC-USD")
    assert read.override == promoted.override
    made = forecast(read, window)
    assert made.line.endswith("no proven skill, in use all the same: to try the service)")
    document = made.to_json()
    assert (document["skill"], document["verdict"]) == (False, "no skill")
    assert document["override"] == "to try the service"
    again, _ = promote(workspace, folder, reason="another", now=NOON)
    assert again.override is not None
    assert again.override.reason == "another"


def test_skill_needs_no_override(written: Path, tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    folder = Path(shutil.copytree(written, workspace.models / written.name))
    promoted, report = promote(workspace, folder, reason="in vain", now=NOON)
    assert (promoted.override, report) == (None, None)
    assert bundle.read(folder).override is None


def test_the_same_model_trained_again_keeps_its_override(
    data: TrainingSet, fitted: Fitted, unproven: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(unproven, tmp_path / unproven.name))
    bundle.promote(tmp_path, folder, override=bundle.Override(reason="why", at="then"))
    assert write(tmp_path, data, fitted, 0.9) == folder
    assert bundle.read(folder).override == bundle.Override(reason="why", at="then")
    assert write(tmp_path, data, fitted, 0.001) == folder
    assert bundle.read(folder).override is None, "it has skill now"
    (folder / "bundle.json").write_text("{}")
    assert bundle.read(write(tmp_path, data, fitted, 0.9)).override is None


def test_a_report_says_that_its_model_is_used_without_skill(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"override": null, "verdict": "no skill"}')
    (tmp_path / "report.html").write_text("<p>before</p><!-- promotion --><!-- /promotion --><p>after</p>")
    for reason in ("first", r"<b> \1 & more"):
        note(tmp_path, bundle.Override(reason=reason, at="2023-02-10T12:00:00+00:00"))
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["override"] == {"reason": r"<b> \1 & more", "at": "2023-02-10T12:00:00+00:00"}
    page = (tmp_path / "report.html").read_text()
    assert "In use without proven skill since 2023-02-10T12:00:00+00:00: &lt;b&gt; \\1 &amp; more" in page
    assert "first" not in page
    assert page.startswith("<p>before</p>")
    assert page.endswith("<p>after</p>")


def test_the_line_says_all_that_matters(written: Path, window: Window) -> None:
    made = forecast(bundle.read(written), window)
    assert 0 < made.outlooks[0].p_up < 1
    assert made.outlooks[0].volatility == pytest.approx(np.sqrt(np.exp(made.outlooks[0].log_rv) * 365))
    assert made.age == timedelta(minutes=2)
    assert "BTC-USD next 24 h as of 2023-02-10T07:00:15Z: P(up) 0." in made.line
    assert "a year; next 6 h: P(up) 0." in made.line
    assert "0:02:00 old" in made.line
    assert made.line.endswith("proven skill in volatility only)")
    both = {"volatility": True, "direction": False, "return": True}
    assert replace(made, proven=both).line.endswith("; proven skill in volatility and return only)")
    assert replace(made, proven=dict.fromkeys(both, True)).line.endswith("; proven skill)")
    unproven = replace(bundle.read(written), proven=dict.fromkeys(made.proven, False))
    assert forecast(unproven, window).line.endswith("no proven skill)")
    document = json.loads(json.dumps(made.to_json()))
    assert document["skill"] is True
    assert list(document["quantiles"]) == ["0.05", "0.1", "0.25", "0.5", "0.75", "0.9", "0.95"]
    quantiles = list(document["quantiles"].values())
    assert sorted(quantiles) == quantiles == list(made.outlooks[0].quantiles.values())
    assert [outlook["horizon_seconds"] for outlook in (document, *document["further"])] == [24 * 3600, 6 * 3600]
    low, high = np.expm1(quantiles[1]), np.expm1(quantiles[-2])
    assert f", return {low:+.1%} to {high:+.1%} (80%), volatility " in made.line


def test_another_list_of_features_is_refused(written: Path, window: Window) -> None:
    read = bundle.read(written)
    swapped = (window.features[1], window.features[0], *window.features[2:])
    with pytest.raises(HeaderMismatch, match="another list or order"):
        forecast(read, replace(window, features=swapped))
    with pytest.raises(HeaderMismatch, match="publish with --length 12"):
        forecast(read, replace(window, values=window.values[1:]))


def test_a_window_without_history_is_refused(written: Path, window: Window) -> None:
    values = window.values.copy()
    values[-1, window.features.index("log_rv_528h")] = np.nan
    with pytest.raises(Missing, match="history is too short"):
        forecast(bundle.read(written), replace(window, values=values))


def test_forecasting_imports_neither_tensorflow_nor_sources(written: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "import numpy as np\n"
        "from backsight_model import bundle, forecast\n"
        "read = bundle.read(pathlib.Path(sys.argv[1]))\n"
        "values = np.zeros((read.length, len(read.features)), dtype=np.float32)\n"
        "assert 0 < forecast.estimate(read, values, name='x')[0].p_up < 1\n"
        "heavy = {'tensorflow', 'keras', 'feast', 'sklearn', 'matplotlib', 'ccxt', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(written)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
