"""A Prefect server on the loopback interface: `python -m flows.server_process [PORT]`.

Without a port it is for one command, and dies with it: it takes a free port, prints its number, and ends when its stdin
is closed, which the system does even when its parent is killed with -9. With one it serves until it is ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import threading
import time

_GRACE_S = 4.0
"""So long the server may take to write down what it has heard, once its parent is gone."""


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, nargs="?", default=0)
    port = parser.parse_args().port
    is_for_one_command = port == 0
    if is_for_one_command:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", port))
    port = listener.getsockname()[1]
    # Prefect reads its settings when it is imported; the UI has to be told where the API is.
    os.environ["PREFECT_SERVER_API_PORT"] = str(port)
    os.environ["PREFECT_API_URL"] = os.environ["PREFECT_UI_API_URL"] = f"http://127.0.0.1:{port}/api"
    if is_for_one_command:
        print(port, flush=True)  # noqa: T201 (the parent reads it)

    import uvicorn
    from prefect.server.api.server import create_app

    _write_at_once()
    config = uvicorn.Config(create_app(), log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def _write_at_once() -> None:
    """Let each transaction on SQLite begin as a writer.

    Prefect's begin as readers. One that then wants to write while another does is refused ("database is locked"),
    however long it would wait, and the client tries again after 2 s: at nearly every child flow, which costs a sweep
    more than all the rest of its orchestration. Begun as a writer, it waits its turn, a few milliseconds.
    """
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
    from sqlalchemy import Connection

    def begin(_: AioSqliteConfiguration, connection: Connection) -> None:
        if SQLITE_BEGIN_MODE.get() is not None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    AioSqliteConfiguration.begin_sqlite_stmt = begin  # type: ignore[method-assign]


def _end_with_parent() -> None:
    while os.read(0, 4096):  # unbuffered: a lock on sys.stdin would be in the way of any other end
        pass
    # Uvicorn's handler ends the services in order: what they heard last, the end of the last tasks, gets written.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(0)


if __name__ == "__main__":
    main()
