"""A Prefect server for one command, which dies with it: `python -m flows.server_process`.

It listens on a free loopback port and prints its number; it ends when its stdin is closed, which the system does even
when its parent is killed with -9.
"""

from __future__ import annotations

import os
import socket
import threading


def main() -> None:
    """Serve until stdin ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    # Prefect reads its settings when it is imported; the UI has to be told where the API is.
    os.environ["PREFECT_SERVER_API_PORT"] = str(port)
    os.environ["PREFECT_API_URL"] = os.environ["PREFECT_UI_API_URL"] = f"http://127.0.0.1:{port}/api"
    print(port, flush=True)  # noqa: T201 (the parent reads it)

    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(), log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def _end_with_parent() -> None:
    while os.read(0, 4096):  # unbuffered: a lock on sys.stdin would be in the way of any other end
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
