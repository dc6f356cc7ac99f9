# Control and GPU workers: everything. Not built where it was written: see infra/compose.yaml.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11.13-slim-bookworm
ENV PYTHONUNBUFFERED=1 UV_SYSTEM_PYTHON=1 UV_NO_CACHE=1
# A C compiler: batch normalisation on the CPU is compiled for the host's own.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.lock /tmp/
RUN pip install --no-cache-dir 'uv>=0.9,<1' && uv pip install --compile-bytecode --require-hashes --requirements /tmp/requirements.lock
COPY --from=build /wheel /tmp/wheel
RUN uv pip install --compile-bytecode --no-deps /tmp/wheel/*.whl \
    && useradd --create-home --uid 10001 secateur \
    && install --directory --owner=secateur /studies /data
USER secateur
WORKDIR /studies
CMD ["prefect", "worker", "start", "--pool", "gpu", "--type", "process", "--limit", "1", "--with-healthcheck"]
