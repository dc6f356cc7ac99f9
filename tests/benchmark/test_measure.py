"""Measuring on a real device: OpenVINO's CPU. Contrasts are large: a busy machine must not fail a test."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from secateur.benchmark import convert, describe, list_devices, measure, predict, unsupported_operations
from secateur.config import DeviceProfile, load_device
from secateur.errors import InputError, MeasurementError, StudyError
from secateur.results import LatencyReport
from tests.benchmark.networks import conv_net


def test_reports_compare_each_model_with_the_reference(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    wide = conv_net(tmp_path / "wide.onnx", width=64)  # 11 times the multiplications
    same, wider = measure([small_net, wide], small_net, profile)
    assert 0.5 < same.latency_ratio.estimate < 2.0
    assert wider.latency_ratio.estimate > 1.5
    assert wider.device_latency_ratio is not None
    assert wider.device_latency_ratio > 1.5
    assert wider.total_latency_ms.p50 > wider.reference_total_latency_ms.p50
    assert same.reference_total_latency_ms == wider.reference_total_latency_ms


def test_a_report_is_complete(profile: DeviceProfile, small_net: Path) -> None:
    [report] = measure([small_net], small_net, profile)
    ratio, total = report.latency_ratio, report.total_latency_ms
    assert ratio.low <= ratio.estimate <= ratio.high
    assert 0 < total.min <= total.p50 <= total.p90
    assert total.num_samples >= 10
    assert report.num_rounds >= profile.min_rounds
    assert report.latency_ms is not None
    assert report.reference_latency_ms is not None
    assert report.latency_ms > 0
    assert min(report.read_ms, report.compile_ms, report.first_inference_ms) > 0
    assert report.size_bytes == small_net.stat().st_size
    assert not report.is_reused
    assert report.conditions["core"] >= 0
    assert report.conditions["before"]["load_average"] >= 0
    assert report.conditions["after"]["load_average"] >= 0
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_the_fingerprint_is_the_runtimes_own_word(profile: DeviceProfile, small_net: Path) -> None:
    device = describe(profile)
    assert (device.profile, device.device, device.precision, device.num_threads) == ("fast", "CPU", "f32", 1)
    assert device.host == platform.node()
    assert device.full_name in [known["full_name"] for known in list_devices()]
    assert measure([small_net], small_net, profile)[0].device == device


def test_without_a_wish_the_runtime_chooses_threads_and_precision() -> None:
    device = describe(load_device("cpu"))
    assert device.num_threads is not None
    assert device.num_threads >= 1
    assert device.precision in {"f32", "bf16", "f16"}


def test_measuring_ends_early_when_the_interval_is_narrow(profile: DeviceProfile, small_net: Path) -> None:
    easy = profile.model_copy(update={"target_half_width": 100.0, "max_duration_s": 5.0})
    [report] = measure([small_net], small_net, easy)
    assert report.num_rounds == easy.min_rounds
    assert not report.is_noisy


def test_a_report_is_noisy_when_the_time_was_too_short(profile: DeviceProfile, small_net: Path) -> None:
    strict = profile.model_copy(update={"target_half_width": 1e-9, "max_duration_s": 0.01, "min_rounds": 7})
    [report] = measure([small_net], small_net, strict)
    assert report.is_noisy
    assert report.num_rounds >= 7


def test_an_open_batch_size_becomes_one(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    [report] = measure([conv_net(tmp_path / "batch.onnx", batch="n")], small_net, profile)
    assert report.num_rounds >= profile.min_rounds


def test_nothing_to_measure_starts_nothing(profile: DeviceProfile, tmp_path: Path) -> None:
    assert measure([], tmp_path / "absent.onnx", profile) == []


def test_another_open_dimension_is_refused(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    (problem,) = measure([conv_net(tmp_path / "open.onnx", height="h")], small_net, profile)
    with pytest.raises(InputError, match=r"open\.onnx: input 'input' has the open shape \[1,3,\?,24\]: export it"):
        raise problem


def test_an_absent_file_is_named_with_the_nearest(profile: DeviceProfile, small_net: Path) -> None:
    with pytest.raises(InputError, match=r"smal\.onnx: there is no such ONNX file\. Did you mean '.*small\.onnx'\?"):
        measure([small_net], small_net.with_name("smal.onnx"), profile)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "OpenVINO cannot read this model: "),
        (b"\x08\x07" * 50, "OpenVINO cannot read this model: "),
    ],
    ids=["empty", "text", "binary"],
)
def test_a_broken_file_fails_alone(
    profile: DeviceProfile, small_net: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content)
    problem, report = measure([broken, small_net], small_net, profile)
    assert isinstance(report, LatencyReport)
    with pytest.raises(InputError, match=rf"broken\.onnx: {reason}"):
        raise problem
    with pytest.raises(InputError, match=rf"broken\.onnx: {reason}"):
        measure([small_net], broken, profile)


def test_fresh_processes_share_the_budget(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    wide = conv_net(tmp_path / "wide.onnx", width=64)
    [report] = measure([wide], small_net, profile.model_copy(update={"num_processes": 2, "min_rounds": 12}))
    assert report.num_processes == len(report.process_ratios) == 2
    assert report.num_rounds >= 12
    assert report.latency_ratio.estimate == pytest.approx(sum(report.process_ratios) / 2)
    assert report.total_latency_ms.num_samples >= 20


def test_layers_are_the_devices_own_account(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    [report] = measure([conv_net(tmp_path / "wide.onnx", width=64)], small_net, profile)
    layers = {layer.name: layer for layer in report.layers}  # without what takes less than a microsecond
    for name in ("c0", "c1", "c2"):
        assert layers[name].type == "Convolution"
        assert "f32" in layers[name].kernel
        assert layers[name].ms > 0


def test_a_network_whose_output_is_no_number_is_refused(
    profile: DeviceProfile, small_net: Path, tmp_path: Path
) -> None:
    problem, _ = measure([conv_net(tmp_path / "nan.onnx", depth=1, scale=3e38), small_net], small_net, profile)
    with pytest.raises(InputError, match=r"nan\.onnx: an output is NaN or infinite on device 'CPU'"):
        raise problem


def test_what_a_device_does_not_have_is_named(profile: DeviceProfile, small_net: Path) -> None:
    assert unsupported_operations([small_net], profile) == [[]]
    with pytest.raises(StudyError, match=r"device profile 'fast': .*no Neural Compute Stick was found"):
        unsupported_operations([small_net], profile.model_copy(update={"device": "MYRIAD"}))


def test_the_ir_computes_what_the_onnx_file_does(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    ir = tmp_path / "net.xml"
    convert(small_net, ir)
    assert ir.with_suffix(".bin").stat().st_size > 0
    images_NCHW = np.random.default_rng(0).standard_normal((2, 3, 24, 24)).astype(np.float32)
    np.testing.assert_array_equal(predict(ir, images_NCHW, profile), predict(small_net, images_NCHW, profile))
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError, match=r"text\.onnx: OpenVINO cannot read this model"):
        convert(tmp_path / "text.onnx", ir)


def test_predictions_are_the_networks_own(profile: DeviceProfile, small_net: Path) -> None:
    images_NCHW = np.random.default_rng(0).random((3, 3, 24, 24), dtype=np.float32)
    logits_NK = predict(small_net, images_NCHW, profile)
    session = ReferenceEvaluator(onnx.load(small_net))
    for image_CHW, logits_K in zip(images_NCHW, logits_NK, strict=True):
        (expected,) = session.run(None, {"input": image_CHW[None]})
        np.testing.assert_allclose(logits_K, expected.reshape(-1), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match=r"small\.onnx: takes \(1, 3, 24, 24\), the images are \(3, 3, 8, 8\)"):
        predict(small_net, images_NCHW[:, :, :8, :8], profile)


def test_an_absent_interpreter_is_told_with_what_makes_one(profile: DeviceProfile, small_net: Path) -> None:
    absent = profile.model_copy(update={"interpreter": "~/no/such/python"})
    with pytest.raises(
        StudyError, match=r"'fast': there is no interpreter '/.*/no/such/python'.*make-ncs2-environment"
    ):
        measure([small_net], small_net, absent)


def test_an_unknown_device_is_refused_with_those_there_are(profile: DeviceProfile, small_net: Path) -> None:
    unknown = profile.model_copy(update={"device": "MYRIAD"})
    with pytest.raises(
        StudyError,
        match=r"device profile 'fast': no Neural Compute Stick was found\. .* no device 'MYRIAD' .*CPU.*lsusb",
    ):
        measure([small_net], small_net, unknown)
    with pytest.raises(StudyError, match="no device 'MYRIAD' here"):
        describe(unknown)


def test_a_folder_for_locks_that_cannot_be_made_is_told(
    profile: DeviceProfile, small_net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(small_net))
    with pytest.raises(
        MeasurementError, match=r"The folder of the locks cannot be made: .* Point TMPDIR at another one"
    ):
        measure([small_net], small_net, profile)
