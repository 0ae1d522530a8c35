# syntax=docker/dockerfile:1
# The program with what it starts or runs: redis-server (for `leasehold up`) and PostgreSQL's pg_dump and pg_restore.

FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
# The caches keep compiled dependencies from build to build; only what changed is compiled again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package leasehold \
    && install -D target/release/leasehold /out/leasehold

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-client redis-server tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/leasehold --create-home leasehold
COPY --from=builder /out/leasehold /usr/local/bin/leasehold

USER leasehold
WORKDIR /var/lib/leasehold
ENV LEASEHOLD__STORE__DATA_DIR=/var/lib/leasehold \
    LEASEHOLD__SERVER__LISTEN=0.0.0.0:7420
VOLUME /var/lib/leasehold
EXPOSE 7420
# SIGTERM drains: running jobs get 30 s by default (worker.drain_timeout_seconds) before they are handed back.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7420 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 ' <&3"]
ENTRYPOINT ["tini", "--", "leasehold"]
CMD ["up"]
