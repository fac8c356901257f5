# Two stages: the first compiles, the second has neither compiler nor pip's caches. Both start from the same image,
# so the virtual environment made in the first is valid in the second.
FROM python:3.13-slim AS build

RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python -m venv /opt/fastgw \
    && /opt/fastgw/bin/pip install --no-cache-dir /wheels/*.whl
# An image that fell back to the slower pure-Python twins is a broken build.
RUN /opt/fastgw/bin/python -c "import sys, fastgw._core as core; print(core.NATIVE, core.REASONS); sys.exit(bool(core.REASONS))"


FROM python:3.13-slim

LABEL org.opencontainers.image.title="fastgw" \
      org.opencontainers.image.description="A self-hosted gateway between applications and AI models" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/fastgw /opt/fastgw
ENV PATH=/opt/fastgw/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Any uid may run this (with group 0, as OpenShift does it, or with an fsGroup on a mounted volume): /data is writable
# for the group, and the gateway makes its own private directory (0700) below it. The root file system may be read-only.
RUN mkdir -p /data /etc/fastgw \
    && chown 10001:0 /data \
    && chmod 2770 /data
# A fastgw.yaml mounted here is found without being named.
WORKDIR /etc/fastgw
VOLUME /data
USER 10001
EXPOSE 4000
# The proxies of the environment are for going out, not for asking oneself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:4000/health/ready', timeout=3)"]
ENTRYPOINT ["fastgw"]
CMD ["serve", "--host", "0.0.0.0", "--data-dir", "/data/fastgw"]
