# syntax=docker/dockerfile:1

# --- builder: the locked dependencies and the relay's wheel, in a virtual environment ---------------
FROM python:3.13-slim AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build

# The tools that build the wheel come from a lock too; the environment of the runtime holds no pip.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements-build.lock
RUN python -m venv --without-pip /opt/relay \
    && /opt/build/bin/pip --python /opt/relay/bin/python install --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY relay ./relay
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/relay/bin/python install --no-deps --no-index dist/*.whl

# --- runtime: nothing but Python, the relay and what it imports -------------------------------------
FROM python:3.13-slim

RUN groupadd --gid 10001 relay \
    && useradd --uid 10001 --gid relay --no-create-home --home-dir /data --shell /usr/sbin/nologin relay \
    && install --directory --owner=relay --group=relay --mode=2770 /data

COPY --from=builder /opt/relay /opt/relay

ENV PATH=/opt/relay/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_MMAP_THRESHOLD_=262144 \
    RELAY_OUTBOX__URL=sqlite:////data/relay.db

USER 10001:10001
WORKDIR /data
VOLUME /data

# The relay ends within 25 s of SIGTERM: give the container 35 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["relay", "status", "--here"]

ENTRYPOINT ["relay"]
CMD ["run"]
