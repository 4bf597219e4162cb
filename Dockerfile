# The Dagster UI and its daemon in one container.
#
#   docker build -t market-pipeline .
#   docker run --init -p 127.0.0.1:3000:3000 -v market-data:/data -v market-runs:/dagster_home \
#     market-pipeline
#
# Publish the port to loopback, as above: the web server has no login. Put a proxy that asks for
# one in front of it before anybody else may reach it.

FROM python:3.13-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /src
RUN python -m venv /opt/venv
# Before the code, so that a change of code does not install everything again.
COPY requirements-runtime.lock ./
RUN /opt/venv/bin/pip install --only-binary :all: --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY market_pipeline ./market_pipeline
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation .


FROM python:3.13-slim-bookworm

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DAGSTER_HOME=/dagster_home \
    PIPELINE_DATA_DIR=/data \
    PIPELINE_INSTRUMENTS_FILE=/data/instruments.yaml \
    # The package's own folder cannot be written by the user that runs it.
    NUMBA_CACHE_DIR=/home/pipeline/.cache/numba

# Both volumes take their first content, and their owner, from these folders.
RUN useradd --create-home --uid 10001 pipeline \
    && install --directory --owner=pipeline --group=pipeline /app \
    && install --directory --mode=0700 --owner=pipeline --group=pipeline /data /dagster_home
COPY --from=build /opt/venv /opt/venv
COPY --chown=pipeline:pipeline workspace.yaml /app/
COPY --chown=pipeline:pipeline dagster_home/dagster.yaml /dagster_home/

WORKDIR /app
USER pipeline
VOLUME ["/data", "/dagster_home"]
EXPOSE 3000

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/server_info', timeout=4)"]

# All interfaces of the container, which has no other way in than its published port. The daemon
# comes along: without it backfills, the schedule and the sensor would only queue their runs.
CMD ["sh", "-c", "umask 077 && exec dagster dev -h 0.0.0.0 -p 3000"]
