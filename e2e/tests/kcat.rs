//! kcat against three brokers.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{KafkaClient as _, Kcat};
use klamm_e2e::cluster::Cluster;
use klamm_e2e::messages::{parse, verify};
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("kcat", run)
}

fn run(cases: &mut Cases, cluster: &mut Cluster) -> Result<()> {
    let kcat = Kcat::new(&cluster.bootstrap());
    cases.run("kcat: three brokers are listed", || {
        let listed = kcat.tool(&["-L"]).run()?.stdout;
        for id in 0..3 {
            let line = format!("broker {id} at {}", cluster.client_address(id));
            ensure!(listed.contains(&line), "no {line:?} in:\n{listed}");
        }
        Ok(())
    });
    suite::every_message_case(cases, &kcat, cluster)?;
    cases.run("kcat: read a topic without a group", || read(&kcat));
    cases.run("kcat: find offsets by time", || offsets_by_time(&kcat));
    cases.run("kcat: headers", || headers(&kcat));
    Ok(())
}

fn read(kcat: &Kcat) -> Result<()> {
    let topic = "kcat-read";
    kcat.ensure_topic(topic)?;
    suite::produce(kcat, topic, 0..5_000, "lz4")?;
    let output = kcat.reader(topic).run()?;
    verify(&[parse(&output.stdout)?], 0..5_000)
}

fn offsets_by_time(kcat: &Kcat) -> Result<()> {
    let topic = "kcat-time";
    kcat.ensure_topic(topic)?;
    suite::produce(kcat, topic, 0..1_000, "none")?;
    let far_past = format!("{topic}:0:1000");
    let first = kcat.tool(&["-Q", "-t", &far_past]).run()?.stdout;
    ensure!(first.trim() == format!("{topic} [0] offset 0"), "{first}");
    let far_future = format!("{topic}:0:4102444800000");
    let none = kcat.tool(&["-Q", "-t", &far_future]).run()?.stdout;
    let end = kcat
        .tool(&["-Q", "-t", &format!("{topic}:0:-1")])
        .run()?
        .stdout;
    ensure!(none == end || none.trim().ends_with("offset -1"), "{none}");
    Ok(())
}

fn headers(kcat: &Kcat) -> Result<()> {
    let topic = "kcat-headers";
    kcat.ensure_topic(topic)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("messages");
    std::fs::write(&file, "key\tvalue\n")?;
    kcat.producer(topic, "zstd")
        .args(["-H", "first=1", "-H", "second=two words"])
        .stdin(&file)
        .run()?;
    let consumed = kcat
        .tool(&[
            "-C",
            "-t",
            topic,
            "-o",
            "beginning",
            "-e",
            "-q",
            "-f",
            "%h|%k|%s\n",
        ])
        .run()?
        .stdout;
    let expected = "first=1,second=two words|key|value";
    ensure!(consumed.trim() == expected, "{consumed}");
    Ok(())
}
