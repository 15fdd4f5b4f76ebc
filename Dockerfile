# syntax=docker/dockerfile:1

FROM rust:1.94.1-bookworm AS builder
# aws-lc-rs compiles C.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package ecr-operator --bin ecr-operator

FROM debian:bookworm-slim
# Root certificates: without them no TLS connection to AWS can be checked.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=builder /src/target/release/ecr-operator /usr/local/bin/ecr-operator
COPY --from=builder /src/LICENSE /usr/share/doc/ecr-operator/LICENSE
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/ecr-operator"]
CMD ["run"]
