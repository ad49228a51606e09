# Two images with the command `videorwkv`, without a compiler and not as root:
#   docker build --target cpu -t videorwkv:cpu .
#   docker build --target cuda -t videorwkv:cuda .
#   docker run --rm -v "$PWD:/work" videorwkv:cpu predict runs/mine clip.mp4
# The scan in C is compiled in a stage that has a compiler, for several kinds of processors; on a GPU,
# `triton` or `chunked` runs. `videorwkv env` says which.

FROM python:3.12-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY videorwkv videorwkv
RUN VIDEORWKV_PREBUILT=1 pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 videorwkv \
    && mkdir /work \
    && chown videorwkv:videorwkv /work
COPY constraints.txt /tmp/constraints.txt
WORKDIR /work
ENTRYPOINT ["videorwkv"]
CMD ["--help"]

FROM base AS cpu
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt torch \
    --index-url https://download.pytorch.org/whl/cpu
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    for wheel in /wheels/*.whl; do \
        pip install --no-cache-dir --constraint /tmp/constraints.txt "${wheel}[hub]"; \
    done
USER 1000:1000

FROM base AS cuda
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    for wheel in /wheels/*.whl; do \
        pip install --no-cache-dir --constraint /tmp/constraints.txt "${wheel}[hub]"; \
    done
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 1000:1000
