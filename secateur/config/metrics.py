"""What is known of a trial, by name."""

METRICS = {
    "latency_ratio": "total latency of the candidate / of the unpruned network; below 1 is faster",
    "device_latency_ratio": "device latency of the candidate / of the unpruned network",
    "total_latency_ms": "end to end: copy in, infer, copy out; the median",
    "latency_ms": "inside the device: sum of the operations' times",
    "top1": "percent, on validation data",
    "top5": "percent, on validation data",
    "loss": "cross entropy, on validation data",
    "min_class_sensitivity": "percent of a class's images that are found; the lowest of all classes",
    "min_class_specificity": "percent of other images that are not taken for a class; the lowest of all classes",
    "calibration_error": "expected distance between confidence and accuracy, percent (Guo et al. 2017)",
    "top1_drop": "top1 of the unpruned network - top1, in points",
    "num_params": "all parameters",
    "macs": "multiply-accumulates of convolutions and linear layers, batch 1",
    "size_bytes": "of the ONNX file",
}
"""Metrics every record has, with their meaning; a study's evaluation function may add others."""
