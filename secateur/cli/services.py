"""What `secateur up` starts on one machine: commands, environments, ports, credentials."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from secateur.cli.supervise import MARK
from secateur.errors import SecateurError
from secateur.store import local_s3
from secateur.store.local_s3 import LocalS3
from secateur.store.s3_client import ACCESS_KEY, ENDPOINT, SECRET_KEY

STORE, SERVER = "object store", "Prefect server"
STORE_URL = "s3://secateur"
WORKERS = {"control worker": "control", "gpu worker": "gpu", "edge worker": "edge"}
"""Each worker's work pool."""
PARTS = (STORE, SERVER, *WORKERS)
_RUNS_AT_ONCE = {"control": 8, "gpu": 1, "edge": 1}


def server_command(port: int) -> list[str]:
    """Return the command line of a Prefect server on the loopback interface."""
    return [sys.executable, "-m", "flows.server_process", str(port)]


def worker_command(pool: str) -> list[str]:
    """Return the command line of a worker of this host."""
    name = f"{pool}@{socket.gethostname()}"
    limit = str(_RUNS_AT_ONCE[pool])
    options = ["--pool", pool, "--name", name, "--type", "process", "--limit", limit]
    return [sys.executable, "-m", "prefect", "worker", "start", *options, "--no-create-pool-if-not-found"]


def server_url(port: int) -> str:
    """Return where the server and its UI answer."""
    return f"http://127.0.0.1:{port}"


def prefect_environment(folder: Path, port: int) -> dict[str, str]:
    """Return the environment of the server, and of what talks to it: ours, but for the user's own Prefect settings."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SECATEUR_", MARK))
    }
    return inherited | {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"{server_url(port)}/api",
        "PREFECT_UI_URL": server_url(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Or a server that is restarted would end the runs that hold a slot.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect/prefect.db",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


def worker_environment(folder: Path, port: int, store: LocalS3) -> dict[str, str]:
    """Return the environment of the workers, and so of the flows they run."""
    return prefect_environment(folder, port) | {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # what infra/automations.yaml counts on
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # an error that ends a flow is written down, too: no pickles
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "SECATEUR_STORE": STORE_URL,
        **store.environment,
    }


def object_store(folder: Path, *, is_running: bool) -> LocalS3:
    """Return the folder's object store: the same credentials, and if possible the same port, as the last time."""
    known = _read_exports(folder / "env")
    data_dir = folder / "store"
    data_dir.mkdir(exist_ok=True, mode=0o700)
    port = int(known[ENDPOINT].rpartition(":")[2]) if ENDPOINT in known else local_s3.free_port()
    if not is_running and not is_free(port):
        port = local_s3.free_port()
    store = LocalS3(data_dir, port)
    if known:
        store.access_key, store.secret_key = known[ACCESS_KEY], known[SECRET_KEY]
    return store


def write_exports(folder: Path, port: int, store: LocalS3) -> Path:
    """Write the file that a shell sources to work with what is up; only its owner may read it."""
    path = folder / "env"
    variables = {"PREFECT_API_URL": f"{server_url(port)}/api", "SECATEUR_STORE": STORE_URL, **store.environment}
    lines = [f"export {name}={value}\n" for name, value in variables.items()]
    new = folder / "env.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(["# For `source`: lets prefect and secateur use what `secateur up` started.\n", *lines])
    new.replace(path)
    return path


def _read_exports(path: Path) -> Mapping[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))


def check_port(port: int) -> None:
    """Check that the server can have a port.

    Raises:
        SecateurError: It is in use.
    """
    if not is_free(port):
        raise SecateurError(
            f"port {port} of 127.0.0.1 is in use or not for you, perhaps by another Prefect server:"
            " end that, or choose another port: 'secateur up --port 4300'."
        )


def is_free(port: int) -> bool:
    """Tell whether this process may listen on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
