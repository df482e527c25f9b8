# The image of broker and operator, for publishing: docker build --tag REGISTRY/klamm:VERSION .
# `cargo xtask image` makes the same image for kind without Docker.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# With --target the flag spares build scripts and procedural macros, which cannot be linked statically.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && variable=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_RUSTFLAGS \
    && env "$variable=-C target-feature=+crt-static" \
        cargo build --release --locked --target "$target" --package klamm-broker --package klamm-operator \
    && mkdir -p /image/etc/ssl/certs /image/tmp \
    && cp "target/$target/release/klamm-broker" "target/$target/release/klamm-operator" /image/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'klamm:x:65532:65532::/:/sbin/nologin' > /image/etc/passwd \
    && echo 'klamm:x:65532:' > /image/etc/group \
    && chmod 1777 /image/tmp

FROM scratch
LABEL org.opencontainers.image.title="klamm" \
      org.opencontainers.image.description="Kafka-compatible broker and its Kubernetes operator" \
      org.opencontainers.image.source="https://github.com/klamm-dev/klamm" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
USER 65532:65532
WORKDIR /
EXPOSE 9092
ENTRYPOINT ["/klamm-broker"]
