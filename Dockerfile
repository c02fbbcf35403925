# syntax=docker/dockerfile:1
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/sidecar
WORKDIR /src
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY sidecar ./sidecar
RUN /opt/sidecar/bin/pip install . \
    && /opt/sidecar/bin/pip uninstall --yes pip setuptools \
    && /opt/sidecar/bin/python -m compileall -q /opt/sidecar/lib

FROM python:3.11-slim-bookworm
ENV PATH=/opt/sidecar/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SIDECAR_CONFIG=/etc/sidecar/sidecar.yaml
# No configuration comes with the image, so that no example account ever guards a real service:
# mount one at the path above.
COPY --from=build /opt/sidecar /opt/sidecar
RUN install -d -o 10001 -g 10001 /var/lib/sidecar
# Numeric, so that Kubernetes can tell it from root (runAsNonRoot).
USER 10001:10001
WORKDIR /var/lib/sidecar
VOLUME /var/lib/sidecar
EXPOSE 2020
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["sidecar", "healthcheck"]
ENTRYPOINT ["sidecar"]
CMD ["run"]
