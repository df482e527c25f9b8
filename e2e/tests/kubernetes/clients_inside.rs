//! Clients in a pod reach the cluster by the bootstrap Service.

use anyhow::Result;
use klamm_crds::DeletionPolicy;
use klamm_e2e::kubernetes::{ClientPod, Example};
use klamm_e2e::messages;
use klamm_e2e::tool::Tool;

use crate::clients_outside::{MESSAGES, produce, reading_messages};

const PARTITIONS: i32 = 6;
const CONSUMER_TIMEOUT_MS: &str = "60000";

pub(crate) async fn kcat_and_java(example: &Example) -> Result<()> {
    example.healthy().await?;
    let pod = ClientPod::start(example).await?;
    for topic in ["kcat-inside", "java-inside"] {
        example
            .create_topic(topic, PARTITIONS, DeletionPolicy::Delete)
            .await?;
    }
    produce(pod.kcat(&["-P", "-t", "kcat-inside", "-K", "\t", "-X", "acks=all"]))?;
    let reader = ["-C", "-t", "kcat-inside", "-o", "beginning", "-e", "-q"];
    verify(pod.kcat(&reader).args(["-f", "%p\t%o\t%k\t%s\n"]))?;

    produce(reading_messages(pod.java("ConsoleProducer"), "java-inside"))?;
    let consumer = pod
        .java("consumer.ConsoleConsumer")
        .args(["--topic", "java-inside", "--group", "java-inside"])
        .args(["--from-beginning", "--timeout-ms", CONSUMER_TIMEOUT_MS])
        .args(["--max-messages", &MESSAGES.end.to_string()]);
    let shown = ["partition", "offset", "key"];
    verify(consumer.args(shown.map(|field| format!("--property=print.{field}=true"))))
}

fn verify(consumer: Tool) -> Result<()> {
    let output = consumer.run()?;
    messages::verify(&[messages::parse(&output.stdout)?], MESSAGES)
}
