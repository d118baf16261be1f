# The stages: the whole project with its .venv, as `make` installs it, to build, monitor and retrain.
# From the project's root:
#   docker build -f deploy/stages.Dockerfile --build-arg COMMIT=$commit -t modelbook-stages .
# BASE is any Debian or Ubuntu with Python 3.13 and its venv; name it with its digest.
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
ENV UV_NATIVE_TLS=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /book
COPY requirements requirements
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
    && .venv/bin/uv pip install --python .venv/bin/python --no-deps --require-hashes -r requirements/extras.txt
COPY . .
RUN .venv/bin/uv pip install --python .venv/bin/python --no-deps --no-build-isolation -e . \
    && .venv/bin/modelbook setup

FROM ${BASE}
# LightGBM's library requires libgomp1; its version is that of the base image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin modelbook
COPY --from=build /book /book
RUN mkdir -p /book/models /book/data /book/reports \
    && chown 10001:10001 /book/models /book/data /book/reports
ENV PATH=/book/.venv/bin:$PATH MODELBOOK_ROOT=/book HOME=/tmp PYTHONUNBUFFERED=1
# The commit of the image, with + for uncommitted changes:
# commit=$(git describe --always --exclude '*' --abbrev=10 --dirty=+)
ARG COMMIT=none
LABEL org.opencontainers.image.title="modelbook-stages" \
      org.opencontainers.image.revision="${COMMIT}"
ENV MODELBOOK_COMMIT=${COMMIT}
WORKDIR /book
# Fargate has no tmpfs: it mounts a volume at /tmp, with these permissions.
VOLUME /tmp
USER 10001:10001
ENTRYPOINT ["modelbook"]
CMD ["build"]
