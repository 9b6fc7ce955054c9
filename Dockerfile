# The HTTP service (docs/deployment.md).
#   docker build -t vitpose .                           for CPUs
#   docker build -t vitpose --build-arg VARIANT=cuda .  for NVIDIA GPUs; run with --gpus all
FROM python:3.12-slim
ARG VARIANT=cpu

WORKDIR /src
COPY . .
RUN extras=serve; \
    if [ "$VARIANT" = cuda ]; then extras=serve,cuda; fi; \
    pip install --no-cache-dir ".[$extras]"

# Downloaded weights and compiled programs are kept below /cache: mount a volume there.
RUN useradd --create-home vitpose && mkdir /cache && chown vitpose /cache
ENV HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
USER vitpose
WORKDIR /models
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
ENTRYPOINT ["vitpose", "serve", "--host", "0.0.0.0"]
