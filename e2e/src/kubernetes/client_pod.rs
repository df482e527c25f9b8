//! Kafka clients inside Kubernetes, run by `kubectl exec`.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::conditions::is_pod_running;
use kube::runtime::wait::Condition as _;

use super::client_image::{ClientImage, JARS, JAVA, LOGGING};
use super::{Example, wait_for};
use crate::tool::Tool;

/// Where clients inside Kubernetes connect, as `examples/cluster.yaml` says.
const BOOTSTRAP_SERVICE: &str = "demo-bootstrap:9092";

const POD: &str = "clients";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A pod in which clients can be run.
pub struct ClientPod<'a> {
    example: &'a Example,
}

impl<'a> ClientPod<'a> {
    /// Makes the image and starts the pod.
    ///
    /// # Errors
    /// When the image can't be made, or the pod does not start.
    pub async fn start(example: &'a Example) -> Result<Self> {
        let image = ClientImage::ensure()?;
        example.access.load_images(&image.archive)?;
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "name": POD },
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": POD,
                    "image": image.name,
                    "imagePullPolicy": "Never",
                    "command": ["/usr/bin/sleep", "infinity"],
                }],
            },
        }))?;
        let pods = example.api::<Pod>();
        pods.create(&PostParams::default(), &pod).await?;
        let running = is_pod_running();
        let met = |pod: Option<&Pod>| running.matches_object(pod);
        wait_for(&pods, POD, "the pod runs", START_LIMIT, met).await?;
        Ok(Self { example })
    }

    /// kcat, connected to the bootstrap Service.
    #[must_use]
    pub fn kcat(&self, args: &[&str]) -> Tool {
        self.exec()
            .args(["/usr/bin/kcat", "-b", BOOTSTRAP_SERVICE, "-E"])
            .args(args)
    }

    /// One of Kafka's tools, below `org.apache.kafka.tools`, connected to the bootstrap Service.
    #[must_use]
    pub fn java(&self, class: &str) -> Tool {
        self.exec()
            .args([JAVA, "-Xmx256m", "-XX:+UseSerialGC"])
            .args(["-XX:TieredStopAtLevel=1", "-cp"])
            .args([format!("{JARS}/*")])
            .args([format!("-Dlog4j2.configurationFile={LOGGING}")])
            .args([format!("org.apache.kafka.tools.{class}")])
            .args(["--bootstrap-server", BOOTSTRAP_SERVICE])
    }

    fn exec(&self) -> Tool {
        self.example
            .access
            .kubectl()
            .args(["exec", "--stdin", POD, "--namespace"])
            .args([&self.example.namespace])
            .args(["--"])
    }
}
