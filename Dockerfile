# syntax=docker/dockerfile:1
# Debian's own Python 3.11, which gets Debian's security fixes: a rebuild takes them up.
# Pinned by version; to pin by content too: docker build --build-arg BASE=debian:12.15-slim@sha256:<digest>
ARG BASE=debian:12.15-slim

FROM ${BASE} AS build
ENV DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN apt-get update \
    && apt-get upgrade --yes \
    && apt-get install --yes --no-install-recommends binutils ca-certificates gcc libc6-dev python3.11-dev python3.11-venv \
    && python3.11 -m venv /opt/sidecar
WORKDIR /src
# What runs Python, and only that: it becomes the whole image.
COPY deploy/image/assemble.sh ./
RUN sh assemble.sh /image base-files libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 liblzma5 \
    libpython3.11-minimal libpython3.11-stdlib libssl3 libstdc++6 libuuid1 media-types \
    python3.11-minimal zlib1g
# Every library by version and hash; `make lock` renews the list.
COPY deploy/image/requirements.txt ./
RUN /opt/sidecar/bin/pip install --only-binary :all: --require-hashes --requirement requirements.txt
COPY LICENSE README.md pyproject.toml setup.cfg setup.py ./
COPY builder ./builder
COPY sidecar ./sidecar
# What every request passes becomes C, the rest byte code: nothing can be compiled later, on a read-only file system.
RUN SIDECAR_COMPILE=1 /opt/sidecar/bin/pip install --no-deps --no-build-isolation . \
    && /opt/sidecar/bin/pip uninstall --yes --quiet ast-serialize librt mypy mypy-extensions pathspec setuptools pip \
    && find /opt/sidecar -name '*.so' -exec strip --strip-unneeded {} + \
    && rm -rf /opt/sidecar/include /opt/sidecar/bin/[Aa]ctivate* \
    && python3.11 -m compileall -q --invalidation-mode unchecked-hash /opt/sidecar/lib \
    && mv /opt/sidecar /image/opt/

FROM scratch
LABEL org.opencontainers.image.title="auth-sidecar" \
      org.opencontainers.image.description="An authenticating reverse proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
ENV PATH=/opt/sidecar/bin:/usr/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    SIDECAR_CONFIG=/etc/sidecar/sidecar.yaml
# No configuration comes with the image, so that no example account ever guards a real service:
# mount one at the path above. Numeric, so that Kubernetes can tell the user from root (runAsNonRoot).
USER 10001:10001
EXPOSE 2020
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 CMD ["sidecar", "healthcheck"]
ENTRYPOINT ["sidecar"]
CMD ["run"]
