"""A champion's model card, in Markdown (Mitchell et al. 2019, Model cards for model reporting).

What it is, what it is worth, how it was chosen and where it comes from, and what it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from secateur.championship import Promotion
from secateur.config import Dataset, DeviceProfile, FromTest
from secateur.report.formats import interval_text, metric_text
from secateur.results import TestScores, TrialRecord

_NUM_SHOWN = 40
"""Indices of one layer's filters, before the rest is left to the checkpoint."""
_Z = 1.959964


def render_model_card(promotion: Promotion) -> str:
    """Return the card of a champion as GitHub-flavoured Markdown."""
    study, record = promotion.study, promotion.record
    sections = {
        f"# {study['name']}: champion": list(_summary(promotion)),
        "## Figures": list(_figures(promotion)),
        "## How it was chosen": list(_choice(promotion)),
        "## Data": list(_data(promotion)),
        "## Settings": ["```yaml", *yaml.safe_dump(_settings(promotion), sort_keys=False).splitlines(), "```"],
        "## Kept filters": list(_kept(record)),
        "## Provenance": list(_provenance(promotion)),
        "## Use": list(_use()),
        "## Limits": list(_limits(promotion)),
    }
    return "\n".join(line for title, content in sections.items() for line in (title, "", *content, "")).rstrip() + "\n"


def wilson_interval(top1: float, num_images: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy, in percent (Wilson 1927; Agresti and Coull 1998)."""
    share, n = top1 / 100, num_images
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half_width = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, 100 * (centre - half_width)), min(100.0, 100 * (centre + half_width))


def _summary(promotion: Promotion) -> Iterator[str]:
    study, verdict = promotion.study, promotion.verdict
    assert verdict.latency_ratio is not None
    yield (
        f"{study['model']}, pruned: {interval_text(verdict.latency_ratio)} of the unpruned network's latency on"
        f" {_device(promotion.record)}, top1 {_top1_text(promotion.test)} on test images"
        f" (unpruned: {_top1_text(promotion.unpruned_test)})."
    )


def _figures(promotion: Promotion) -> Iterator[str]:
    record, unpruned = promotion.record, promotion.unpruned
    assert record.compressed is not None
    assert unpruned.compressed is not None
    assert record.latency is not None
    yield from _table(
        ("", "champion", "unpruned"),
        [
            ("top1 %, test images", _top1_text(promotion.test), _top1_text(promotion.unpruned_test)),
            ("top5 %, test images", f"{promotion.test.top5:.2f}", f"{promotion.unpruned_test.top5:.2f}"),
            ("latency ratio", interval_text(record.latency.latency_ratio), "1"),
            (
                "total latency ms, p50",
                metric_text("total_latency_ms", record.latency.total_latency_ms.p50),
                metric_text("total_latency_ms", record.latency.reference_total_latency_ms.p50),
            ),
            ("parameters", f"{record.compressed.num_params:,}", f"{unpruned.compressed.num_params:,}"),
            ("multiply-accumulates", f"{record.compressed.macs:,}", f"{unpruned.compressed.macs:,}"),
            ("bytes of ONNX", f"{record.compressed.size_bytes:,}", f"{unpruned.compressed.size_bytes:,}"),
        ],
    )
    yield ""
    yield (
        f"Brackets are 95 % intervals: of latency over {record.latency.num_processes} fresh processes, of top1 over"
        f" {promotion.test.num_images:,} test images (Wilson's). Both networks' test images were looked at once:"
        f" {', '.join(promotion.test.accessed_at)}, {', '.join(promotion.unpruned_test.accessed_at)}."
    )


def _choice(promotion: Promotion) -> Iterator[str]:
    contest, verdict = promotion.contest, promotion.verdict
    assert verdict.difference is not None
    assert verdict.parity is not None
    difference = verdict.difference
    yield (
        f"Contest {contest.number} of this study. Trials {', '.join(contest.trials)}, the best by its rule, were"
        f" retrained with {len(contest.seeds)} fresh seeds each ({', '.join(map(str, contest.seeds))}), and judged on"
        f" {verdict.num_images:,} images that nobody had chosen by, as the device computes them."
    )
    yield ""
    yield from _table(
        ("trial", "top1 % by seed", "difference to unpruned, points", "latency ratio", "verdict"),
        [
            (
                other.trial,
                ", ".join(f"{top1:.2f}" for top1 in other.top1),
                "" if (d := other.difference) is None else f"{d.estimate:+.2f} [{d.low:+.2f}, {d.high:+.2f}]",
                "" if other.latency_ratio is None else interval_text(other.latency_ratio),
                " ".join(other.problems) or ("champion" if other.trial == contest.winner else "passed"),
            )
            for other in contest.verdicts
        ],
    )
    yield ""
    yield (
        f"Noninferiority: the lower end of the {difference.confidence:.1%} interval over seeds and images,"
        f" {difference.low:+.2f} points, is above the margin of -{contest.margin:g}. This network, {verdict.network},"
        f" is the median of its seeds on the first validation part. Export parity: max |torch - onnx| is"
        f" {verdict.parity:.2g} of the largest output."
    )


def _data(promotion: Promotion) -> Iterator[str]:
    study, record = promotion.study, promotion.record
    assert record.compressed is not None
    yield f"- dataset: {study['dataset']['name']}, validation images: {_validation(study['dataset'])}"
    seen = study["weights_have_seen"] or "not said"
    weights = study["weights"]
    origin = "trained by the study" if weights is None else f"{Path(weights).name} (have seen: {seen})"
    yield f"- weights before pruning: {origin}"
    yield f"- first validation part, by which it was searched: {record.compressed.validation.num_images:,} images"
    yield f"- second validation part, by which it was judged: {promotion.verdict.num_images:,} images"
    yield f"- test images, for the published figure alone: {promotion.test.num_images:,}"


def _validation(fields: dict[str, Any]) -> str:
    dataset = Dataset.model_validate(fields)
    if dataset.name.startswith("python:"):
        return "as its function divides them"
    if isinstance(dataset.validation, FromTest):
        return f"those of the test part with {dataset.validation.files} file numbers"
    number = "a sixth" if dataset.validation is None else f"{dataset.validation:,}"
    return f"{number} of the training part"


def _settings(promotion: Promotion) -> dict[str, Any]:
    study, record = promotion.study, promotion.record
    return {
        "parameters": dict(record.parameters),
        "seed": record.seed,
        "training": study["training"],
        "device": DeviceProfile.model_validate(study["device"]).model_dump(mode="json", exclude_defaults=True),
    }


def _kept(record: TrialRecord) -> Iterator[str]:
    assert record.compressed is not None
    yield from _table(
        ("convolution", "filters kept", "of", "indices"),
        [
            (name, str(len(layer.kept)), str(layer.num_filters), _indices(layer.kept, layer.num_filters))
            for name, layer in record.compressed.layers.items()
        ],
    )


def _indices(kept: Sequence[int], num_filters: int) -> str:
    if len(kept) == num_filters:
        return "all"
    shown = ", ".join(map(str, kept[:_NUM_SHOWN]))
    return f"{shown}, ..." if len(kept) > _NUM_SHOWN else shown


def _provenance(promotion: Promotion) -> Iterator[str]:
    record = promotion.record
    assert record.compressed is not None
    yield f"- study {promotion.study['name']}, trial {promotion.verdict.trial}, network {record.label}"
    yield f"- promoted {promotion.promoted_at}"
    yield f"- ONNX: {record.compressed.onnx}"
    yield f"- checkpoint: {record.compressed.checkpoint}"
    yield f"- versions: {', '.join(f'{name} {version}' for name, version in record.versions.items())}"
    yield f"- device: {_device(record)}"


def _use() -> Iterator[str]:
    yield from (
        "```python",
        "import openvino",
        'compiled = openvino.compile_model("champion.xml", "CPU")    # or champion.onnx',
        "",
        "from pathlib import Path",
        "from secateur.thinning import rebuild",
        'module = rebuild(Path("champion.safetensors").read_bytes()).module    # to train it further',
        "```",
    )


def _limits(promotion: Promotion) -> Iterator[str]:
    record, study = promotion.record, promotion.study
    assert record.latency is not None
    yield f"- The latency ratio holds for {_device(record)}, batch 1; measure again on any other device or runtime."
    yield f"- Accuracy holds for images like those of {study['dataset']['name']}, normalised as in training."
    yield (
        f"- The second validation part was used by {promotion.contest.number} contest(s) of this study: each further"
        " one makes its judgement a little kinder."
    )
    worst = [share for share in promotion.test.sensitivity if share is not None]
    if worst:
        yield f"- The class found least is found in {min(worst):.1%} of its test images."
    if record.latency.is_noisy:
        yield "- The latency was noisy."


def _device(record: TrialRecord) -> str:
    assert record.latency is not None
    device = record.latency.device
    threads = "" if device.num_threads is None else f", {device.num_threads} thread(s)"
    return f"{device.full_name} ({device.device}, {device.precision}{threads}, {device.software})"


def _top1_text(scores: TestScores) -> str:
    low, high = wilson_interval(scores.top1, scores.num_images)
    return f"{scores.top1:.2f} [{low:.2f}, {high:.2f}]"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"
