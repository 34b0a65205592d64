# gftzoo with its demo. For a CPU-only torch, give pip's own settings: docker build --build-arg PIP_EXTRA_INDEX_URL=... .
FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL
WORKDIR /opt/gftzoo
COPY . .
RUN pip install --no-cache-dir '.[demo]' plugins/gftzoo-diffusion plugins/gftzoo-llamagen \
    plugins/gftzoo-autoregressive plugins/gftzoo-var plugins/gftzoo-mar plugins/gftzoo-maskgit plugins/gftzoo-sd plugins/gftzoo-text2image \
    && useradd --create-home gftzoo
USER gftzoo
WORKDIR /home/gftzoo
ENTRYPOINT ["gftzoo"]
CMD ["--help"]
