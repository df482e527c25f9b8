//! Garbage on every port of a broker: it stays up, serves others, and keeps to its memory.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{KafkaClient as _, Kcat};
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::messages::{parse, verify};
use klamm_e2e::process::anonymous_memory_bytes;
use klamm_e2e::random::Random;
use klamm_e2e::suite::produce;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: u64 = 1 << 20;
/// The default of `klamm.memory.requests.max.bytes`: requests being read and served.
const REQUESTS_BYTES_MAX: u64 = 256 * MIB;
/// What a connection may take beside its requests: its task, and buffers of TCP and HTTP/2.
const CONNECTION_BYTES_MAX: u64 = 32 << 10;
/// What the allocator keeps of memory that was in use once, caches, threads.
const ALLOCATOR_BYTES_MAX: u64 = 64 * MIB;

const BROKERS: u16 = 3;
/// The broker that gets it all.
const VICTIM: u16 = 0;
const TOPIC: &str = "garbage";
const CONNECTIONS: usize = 10_000;
const SOCKET_LIMIT: Duration = Duration::from_millis(500);
const API_KEY_MAX: i16 = 95;
const API_VERSION_MAX: i16 = 19;

fn main() -> ExitCode {
    let mut cases = Cases::new("garbage");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    raise_file_limit()?;
    let cluster = DevCluster::start(BROKERS, &["num.partitions=3"])?;
    let mut target = Target::new(&cluster)?;
    let mut random = Random::from_environment();
    cases.run("random bytes", || random_bytes(&mut target, &mut random));
    cases.run("huge lengths", || huge_lengths(&mut target));
    cases.run("hostile lengths in every API", || {
        hostile_requests(&mut target, &mut random)
    });
    cases.run("half frames", || half_frames(&mut target));
    cases.run("requests without reading answers", || {
        slow_requests(&mut target)
    });
    cases.run("fetches without reading answers", || {
        slow_fetches(&mut target)
    });
    for (name, address) in target.ports() {
        let case = format!("{CONNECTIONS} connections to the {name} port");
        cases.run(&case, || many_connections(&mut target, address));
    }
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

/// Ten thousand connections are as many open files.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("can't raise the limit of open files")
}

struct Target<'a> {
    cluster: &'a DevCluster,
    kcat: Kcat,
    pids: Vec<u32>,
    memory_before: u64,
    /// Messages that the topic holds.
    produced: u64,
}

impl<'a> Target<'a> {
    /// Measures memory after some normal work.
    fn new(cluster: &'a DevCluster) -> Result<Self> {
        let pids = (0..BROKERS).map(|id| cluster.broker_pid(id));
        let pids = pids.collect::<Result<Vec<_>>>()?;
        let mut target = Self {
            cluster,
            kcat: Kcat::new(&cluster.bootstrap()),
            memory_before: 0,
            pids,
            produced: 0,
        };
        target.kcat.ensure_topic(TOPIC)?;
        target.produce_and_consume()?;
        target.memory_before = target.memory()?;
        Ok(target)
    }

    fn ports(&self) -> [(&'static str, SocketAddr); 3] {
        [
            ("client", self.cluster.client_address(VICTIM)),
            ("gRPC", self.cluster.rpc_address(VICTIM)),
            ("HTTP", self.cluster.http_address(VICTIM)),
        ]
    }

    fn client_port(&self) -> SocketAddr {
        self.cluster.client_address(VICTIM)
    }

    fn memory(&self) -> Result<u64> {
        anonymous_memory_bytes(self.pids[usize::from(VICTIM)])
    }

    fn produce_and_consume(&mut self) -> Result<()> {
        let end = self.produced + 1_000;
        produce(&self.kcat, TOPIC, self.produced..end, "none")?;
        self.produced = end;
        let output = self.kcat.reader(TOPIC).run()?;
        verify(&[parse(&output.stdout)?], 0..end)
    }

    /// Called while the connections of a case are still there.
    fn check(&mut self, connections: usize) -> Result<()> {
        let grown = self.memory()?.saturating_sub(self.memory_before);
        let allowed = REQUESTS_BYTES_MAX
            + ALLOCATOR_BYTES_MAX
            + u64::try_from(connections)? * CONNECTION_BYTES_MAX;
        println!(
            "    {connections} connections, memory grew by {} MiB, {} are allowed",
            grown / MIB,
            allowed / MIB
        );
        ensure!(grown <= allowed, "memory grew by {} MiB", grown / MIB);
        for (id, &pid) in (0..).zip(&self.pids) {
            ensure!(
                self.cluster.broker_pid(id)? == pid,
                "broker {id} was started again"
            );
            ensure!(self.cluster.is_ready(id), "broker {id} is not ready");
        }
        self.produce_and_consume()
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_write_timeout(Some(SOCKET_LIMIT))?;
    stream.set_read_timeout(Some(SOCKET_LIMIT))?;
    Ok(stream)
}

/// A broker may close the connection at any byte.
fn throw(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

fn random_bytes(target: &mut Target<'_>, random: &mut Random) -> Result<()> {
    let mut open = Vec::new();
    for (_, address) in target.ports() {
        for _ in 0..200 {
            let stream = connect(address)?;
            let count = usize::try_from(random.within(1..64 << 10))?;
            throw(&stream, &random.bytes(count));
            open.push(stream);
        }
    }
    target.check(open.len())
}

/// Lengths that a peer claims and does not send.
fn huge_lengths(target: &mut Target<'_>) -> Result<()> {
    let [(_, client), (_, rpc), (_, http)] = target.ports();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let headers = [&preface[..], b"\xff\xff\xff\x01\x04\0\0\0\x01"].concat();
    let data = [&preface[..], b"\xff\xff\xff\0\0\0\0\0\x01"].concat();
    let body = b"POST /readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n";
    let header = [b"GET / HTTP/1.1\r\nLong: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    let cases: [(SocketAddr, Vec<u8>); 8] = [
        (client, i32::MAX.to_be_bytes().to_vec()),
        (client, (-1_i32).to_be_bytes().to_vec()),
        (client, i32::MIN.to_be_bytes().to_vec()),
        // The largest frame that is allowed, of which 1 KiB comes.
        (
            client,
            [
                &(100_i32 << 20).to_be_bytes()[..],
                &request(0, 9, &[0; 1024])[4..],
            ]
            .concat(),
        ),
        (rpc, headers),
        (rpc, data),
        (http, body.to_vec()),
        (http, header),
    ];
    let mut open = Vec::new();
    for (address, bytes) in &cases {
        for _ in 0..100 {
            let stream = connect(*address)?;
            throw(&stream, bytes);
            open.push(stream);
        }
    }
    target.check(open.len())
}

/// Good headers of every API and version, with bodies in which every length is a lie.
fn hostile_requests(target: &mut Target<'_>, random: &mut Random) -> Result<()> {
    let address = target.client_port();
    let mut requests = 0;
    for api_key in 0..=API_KEY_MAX {
        for version in 0..=API_VERSION_MAX {
            // One lie a connection: the broker closes it.
            let bodies = [
                vec![0xff; 48],
                [&[0x7f][..], &[0xff; 47]].concat(),
                [
                    &[0, 0, 0, 0, 0, 0, 0, 1][..],
                    &[0x7f, 0xff, 0xff, 0xff].repeat(10),
                ]
                .concat(),
                random.bytes(200),
            ];
            let stream = connect(address)?;
            let body = &bodies[requests % bodies.len()];
            throw(&stream, &request(api_key, version, body));
            let _ = stream.shutdown(Shutdown::Write);
            requests += 1;
        }
    }
    target.check(0)
}

/// A request with a header that is the same for all versions up to its tagged fields.
fn request(api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7_i32.to_be_bytes());
    // No client id; flexible versions read the first byte of the body as tagged fields.
    frame.extend((-1_i16).to_be_bytes());
    frame.extend(body);
    let length = i32::try_from(frame.len()).expect("requests here are small");
    [&length.to_be_bytes()[..], &frame].concat()
}

fn half_frames(target: &mut Target<'_>) -> Result<()> {
    let api_versions = request(18, 0, &[]);
    let mut open = Vec::new();
    for count in 1..api_versions.len() {
        for _ in 0..50 {
            let stream = connect(target.client_port())?;
            throw(&stream, &api_versions[..count]);
            open.push(stream);
        }
    }
    for (_, address) in &target.ports()[1..] {
        for count in 1..16 {
            let stream = connect(*address)?;
            throw(&stream, &b"PRI * HTTP/2.0\r\n"[..count]);
            open.push(stream);
        }
    }
    target.check(open.len())?;
    // The other half still counts.
    let mut stream = &open[0];
    throw(stream, &api_versions[1..]);
    let mut answer = [0; 4];
    stream
        .read_exact(&mut answer)
        .context("a request in two parts was not answered")
}

/// Sends as long as the broker takes more.
fn stuff(stream: &TcpStream, bytes: &[u8], bytes_max: usize) {
    let start = Instant::now();
    let mut sent = 0;
    let mut stream = stream;
    while sent < bytes_max && start.elapsed() < Duration::from_secs(1) {
        if stream.write_all(bytes).is_err() {
            return;
        }
        sent += bytes.len();
    }
}

fn slow_requests(target: &mut Target<'_>) -> Result<()> {
    // Metadata of all topics: small question, long answer.
    let metadata = request(3, 1, &(-1_i32).to_be_bytes()).repeat(1_000);
    let mut open = Vec::new();
    for _ in 0..20 {
        let stream = connect(target.client_port())?;
        stuff(&stream, &metadata, 8 << 20);
        open.push(stream);
    }
    target.check(open.len())
}

fn slow_fetches(target: &mut Target<'_>) -> Result<()> {
    let fetches = fetch().repeat(200);
    let mut open = Vec::new();
    for _ in 0..100 {
        let stream = connect(target.client_port())?;
        throw(&stream, &fetches);
        open.push(stream);
    }
    target.check(open.len())
}

/// Fetch v4 of every partition from its start.
fn fetch() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1_i32).to_be_bytes()); // replica
    body.extend(0_i32.to_be_bytes()); // max wait
    body.extend(0_i32.to_be_bytes()); // min bytes
    body.extend(i32::MAX.to_be_bytes()); // max bytes
    body.push(0); // isolation
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(TOPIC.len()).expect("short").to_be_bytes());
    body.extend(TOPIC.as_bytes());
    body.extend(3_i32.to_be_bytes());
    for partition in 0..3_i32 {
        body.extend(partition.to_be_bytes());
        body.extend(0_i64.to_be_bytes());
        body.extend(i32::MAX.to_be_bytes());
    }
    request(1, 4, &body)
}

fn many_connections(target: &mut Target<'_>, address: SocketAddr) -> Result<()> {
    let open = (0..CONNECTIONS).map(|_| connect(address));
    let open = open.collect::<Result<Vec<_>>>()?;
    target.check(open.len())
}
