//! Certificates in use, and peers that were refused for theirs.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::counter;
use crate::rpc::RpcTls;
use crate::tls::CertificateStatus;

/// Certificates of listeners and of gRPC.
pub struct TlsMetrics {
    certificates: Vec<Arc<CertificateStatus>>,
    rpc: Option<Arc<RpcTls>>,
}

impl TlsMetrics {
    /// Of the client listeners with TLS, and of gRPC if it has.
    #[must_use]
    pub fn new(
        listeners: impl Iterator<Item = Arc<CertificateStatus>>,
        rpc: Option<&Arc<RpcTls>>,
    ) -> Self {
        let of_rpc = rpc.map(|rpc| Arc::clone(rpc.certificate()));
        Self {
            certificates: listeners.chain(of_rpc).collect(),
            rpc: rpc.cloned(),
        }
    }

    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&CertificateStatus) -> i64,
    ) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for status in &self.certificates {
            let labels = [("listener", status.listener.as_str())];
            ConstGauge::new(value(status)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for TlsMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsMetrics")
    }
}

impl Collector for TlsMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let e = &mut encoder;
        self.gauge(
            e,
            "certificate_expiry_timestamp_seconds",
            "When the certificate of a listener, rpc for gRPC, expires, or another one of its chain before",
            CertificateStatus::expiry_s,
        )?;
        self.gauge(
            e,
            "certificate_rejected",
            "1 while a listener's files hold certificates that can't be used, and the former ones are",
            |status| i64::from(status.is_rejected()),
        )?;
        let help = "Times that new certificates were taken while the broker ran";
        let mut metric =
            e.encode_descriptor("certificate_reloads", help, None, MetricType::Counter)?;
        for status in &self.certificates {
            let labels = [("listener", status.listener.as_str())];
            ConstCounter::new(status.reloads()).encode(metric.encode_family(&labels)?)?;
        }
        counter(
            e,
            "rpc_connections_refused",
            "gRPC connections closed because one end did not show a certificate that the other believes",
            self.rpc.as_ref().map_or(0, |rpc| rpc.refused()),
        )
    }
}
