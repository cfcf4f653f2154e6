# The predictor: samedge with its runtime dependencies, no torch. Works read-only, offline, and as any user.
#   docker build -t samedge .
#   docker run --rm -m 8G -v "$PWD/inputs:/inputs" -v "$PWD/outputs:/outputs" samedge /inputs /outputs

FROM python:3.11-slim-bookworm AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/samedge
COPY requirements.lock /build/
RUN python -m pip --python /opt/samedge/bin/python install --require-hashes -r /build/requirements.lock
COPY docker/slim.sh /build/docker/
RUN sh /build/docker/slim.sh /opt/samedge
COPY . /build
RUN python -m pip wheel --no-deps --wheel-dir /wheels /build \
    && python -m pip --python /opt/samedge/bin/python install --no-deps /wheels/*.whl \
    && python -m pip --python /opt/samedge/bin/python check
# Compiled here because the root may be read-only later; by hash, so that file times do not matter.
RUN /opt/samedge/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/samedge/lib

FROM python:3.11-slim-bookworm
COPY --from=build /opt/samedge /opt/samedge
COPY predict.sh docker/entrypoint.sh /workspace/
ENV PATH=/opt/samedge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
WORKDIR /workspace
USER 1000:1000
ENTRYPOINT ["sh", "/workspace/entrypoint.sh"]
CMD ["sh", "predict.sh"]
