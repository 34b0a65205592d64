# gftzoo with its demo, for a CPU. For a GPU: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/gftzoo
COPY . .
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" '.[demo]' plugins/gftzoo-diffusion plugins/gftzoo-llamagen \
    plugins/gftzoo-autoregressive plugins/gftzoo-var plugins/gftzoo-mar plugins/gftzoo-maskgit plugins/gftzoo-sd \
    && useradd --create-home gftzoo
USER gftzoo
WORKDIR /home/gftzoo
ENTRYPOINT ["gftzoo"]
CMD ["--help"]
