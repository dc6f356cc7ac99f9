"""The runner: times ONNX files with OpenVINO, and does nothing else.

It is a program, started by the path of this folder under any Python >= 3.8 that has numpy and OpenVINO, 2021.4 or
since 2023.2, on the host that has the device. It reads one JSON request, a line, from stdin and writes JSON lines to
stdout::

    {"command": "measure", "profile": {...}, "reference": path, "models": [path, ...], "seed": 0,
     "with_details": true, "timeout_s": 120, "locks": {"device": path, "queue": path, "host": path,
     "is_exclusive": false, "timeout_s": 600}}
    {"command": "evaluate", "profile": {...}, "model": path, "images": path.npy, "locks": ..., ...}
    {"command": "convert", "model": path.onnx, "ir": path.xml, "timeout_s": 120}
    {"command": "query", "profile": {...}, "models": [path, ...], "timeout_s": 120}
    {"command": "describe", "profile": {...}, "timeout_s": 120}
    {"command": "devices", "timeout_s": 120}

    {"event": "waiting", "reason": "process 4711 measures on the same device"}
    {"event": "progress", "phase": "compiling x.onnx", "network": 1}
    {"event": "progress", "phase": "measuring", "done": 0.4, "half_width": 0.02}
    {"event": "result", ...}
    {"event": "error", "kind": "input" | "device" | "busy" | "runtime", "message": "..."}

`network` tells whose fault it would be if nothing came after: 0 is the reference. Whoever starts the runner holds the
other end of its stdin: when that closes, the runner ends. Its locks (see `locks`) are held by this process and by no
other, so they last exactly as long as the measurement, however that ends.
"""
