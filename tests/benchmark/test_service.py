"""A remote service as a device, on loopback; `test_kserve.py` asks a third party's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from secateur.benchmark import Measured, describe, measure, predict
from secateur.config import DeviceProfile
from secateur.errors import InputError, MeasurementError, StudyError
from secateur.results import LatencyReport
from tests.benchmark.networks import conv_net
from tests.benchmark.v2_server import V2Server
from tests.cli.conftest import Secateur, secateur

__all__ = ["secateur"]


@pytest.fixture(scope="session")
def wide_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conv_net(tmp_path_factory.mktemp("networks") / "wide.onnx", width=96, size=48)


@pytest.fixture
def server(small_net: Path, wide_net: Path) -> Iterator[V2Server]:
    with V2Server(small_net, wide_net).running() as server:
        yield server


@pytest.fixture
def cloud(server: V2Server) -> DeviceProfile:
    return service_profile(server.url)


def service_profile(url: str) -> DeviceProfile:
    return DeviceProfile(
        name="cloud",
        kind="http",
        url=url,
        num_warmups=2,
        min_rounds=5,
        num_processes=1,
        max_duration_s=0.3,
        timeout_s=60.0,
    )


def report_of(outcome: Measured) -> LatencyReport:
    assert isinstance(outcome, LatencyReport), outcome
    return outcome


@pytest.mark.parametrize("tensors", ["binary", "json"])
def test_models_of_a_service_are_compared_as_any(
    cloud: DeviceProfile, small_net: Path, wide_net: Path, tensors: str
) -> None:
    [wide] = measure([wide_net], small_net, cloud.model_copy(update={"tensors": tensors}))
    report = report_of(wide)
    assert report.latency_ratio.low > 1.0  # 144 times the multiplications
    assert report.total_latency_ms.p50 > report.reference_total_latency_ms.p50
    assert report.device.device == cloud.url
    assert (report.device.software, report.device.precision) == ("v2-for-tests 1", "unknown")
    assert report.latency_ms is None
    assert report.network is not None
    assert report.network.source == "empty request"
    assert 0 < report.network.latency_ms < report.total_latency_ms.p50


def test_a_services_statistics_tell_its_own_time_from_the_networks(
    server: V2Server, cloud: DeviceProfile, wide_net: Path
) -> None:
    server.keeps_statistics, server.delay_s = True, 0.03
    [outcome] = measure([wide_net], wide_net, cloud)
    report = report_of(outcome)
    assert report.network is not None
    assert report.network.source == "statistics"
    assert report.network.latency_ms > 30  # the delay is not in the statistics
    assert report.latency_ms is not None
    assert 0 < report.latency_ms < report.total_latency_ms.p50 - 30
    assert [layer.name for layer in report.layers] == ["queue", "compute_input", "compute_infer", "compute_output"]


def test_a_service_computes_what_the_file_does(cloud: DeviceProfile, profile: DeviceProfile, small_net: Path) -> None:
    images_NCHW = np.random.default_rng(0).random((3, 3, 24, 24), dtype=np.float32)
    there, here = predict(small_net, images_NCHW, cloud), predict(small_net, images_NCHW, profile)
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


def test_another_network_under_the_name_is_refused(
    server: V2Server, cloud: DeviceProfile, small_net: Path, wide_net: Path
) -> None:
    server.scale = 1.5
    with pytest.raises(InputError, match=r"small\.onnx: .*'small' computes something else.* 0\.5 of the largest"):
        measure([small_net], small_net, cloud)
    server.scale = 1.0
    (error,) = measure([wide_net], small_net, cloud.model_copy(update={"model": "small"}))
    with pytest.raises(InputError, match=r"'small' takes \[\[-1, 3, 24, 24\]\], the ONNX file \[\[1, 3, 48, 48\]\]"):
        raise error


def test_a_model_that_the_service_lacks_fails_alone(cloud: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    error, report = measure([conv_net(tmp_path / "absent.onnx"), small_net], small_net, cloud)
    assert isinstance(report, LatencyReport)
    with pytest.raises(InputError, match=r"has no model 'absent'"):
        raise error


def test_a_connection_that_the_service_closes_is_opened_again(
    server: V2Server, cloud: DeviceProfile, small_net: Path
) -> None:
    server.closes = True
    report_of(measure([small_net], small_net, cloud)[0])


def test_a_service_that_fails_later_is_told(server: V2Server, cloud: DeviceProfile, small_net: Path) -> None:
    server.fails_after = 12
    with pytest.raises(MeasurementError, match=r"model 'small' answered 500: .*out of memory"):
        measure([small_net], small_net, cloud)


def test_a_slow_answer_has_an_end(server: V2Server, cloud: DeviceProfile, small_net: Path) -> None:
    server.delay_s = 1.0
    with pytest.raises(MeasurementError, match=r"does not answer: timed out\. Check that it runs"):
        measure([small_net], small_net, cloud.model_copy(update={"request_timeout_s": 0.2}))


def test_credentials_come_from_the_environment_and_are_not_told(
    server: V2Server, cloud: DeviceProfile, small_net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "s3cret"
    with pytest.raises(StudyError, match=r"device profile 'cloud': .* refuses the credentials \(401\): set token_var"):
        describe(cloud)
    named = cloud.model_copy(update={"token_variable": "CLOUD_TOKEN"})
    with pytest.raises(StudyError, match=r"environment variable 'CLOUD_TOKEN' \(token_variable\) is not set"):
        describe(named)
    monkeypatch.setenv("CLOUD_TOKEN", "wrong")
    with pytest.raises(StudyError) as error:
        describe(named)
    assert "wrong" not in str(error.value)
    monkeypatch.setenv("CLOUD_TOKEN", "s3cret")
    report = report_of(measure([small_net], small_net, named)[0])
    assert "s3cret" not in report.model_dump_json() + named.model_dump_json()


def test_what_is_no_service_is_told(server: V2Server, cloud: DeviceProfile) -> None:
    with pytest.raises(StudyError, match=r"/elsewhere has no v2: this is no service of the KServe v2 protocol"):
        describe(service_profile(f"{server.url}/elsewhere"))
    server.shutdown()
    server.server_close()
    with pytest.raises(StudyError, match=r"device profile 'cloud': http://127\.0\.0\.1:\d+ does not answer: .*refused"):
        describe(cloud)


def test_a_service_is_measured_by_one_at_a_time(cloud: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    measure([small_net], small_net, cloud)
    locks = [path.name for path in (tmp_path / f"secateur-{os.getuid()}").iterdir()]
    assert locks == [f"http___{cloud.url.removeprefix('http://').replace(':', '_')}.lock"]


def test_the_command_line_tells_the_networks_share_and_the_stream(
    secateur: Secateur, server: V2Server, small_net: Path, tmp_path: Path
) -> None:
    (tmp_path / "cloud.yaml").write_text(
        f"kind: http\nurl: {server.url}\nnum_processes: 1\nmin_rounds: 5\nmax_duration_s: 0.5\n"
        "mode: stream\nframes_per_s: 20\n"
    )
    typed = secateur("benchmark", small_net, "--device", "cloud.yaml")
    assert typed.code == 0, typed.err
    assert re.search(r"small\.onnx: [\d.]+ of [\d.]+ ms are the network's \(a request of the same size", typed.out)
    assert re.search(r"small\.onnx: of 10 frames, 20 a second, \d were dropped; [\d.]+ a second sustained", typed.out)
    assert f"v2-for-tests ({server.url}, unknown), v2-for-tests 1" in typed.out
    [model] = json.loads(secateur("benchmark", small_net, "--device", "cloud.yaml", "--json").out)["models"]
    assert model["network"]["source"] == "empty request"
    assert model["stream"]["num_frames"] == 10
