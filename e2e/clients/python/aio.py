"""Talks to a Kafka cluster with aiokafka for Klamm's tests; commands: ../README.md."""

import asyncio
import signal
import sys
from contextlib import asynccontextmanager

import aiokafka
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

TIMEOUT_SECONDS = 60
# The cluster has that long to answer when brokers fail.
REQUEST_TIMEOUT_MS = 30_000
STDIN_CHUNK_BYTES = 1 << 16


@asynccontextmanager
async def admin(bootstrap):
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def check(code):
    if code != 0:
        raise for_code(code)()


async def create_topic(bootstrap, topic, partitions, replicas):
    async with admin(bootstrap) as client:
        answer = await client.create_topics([NewTopic(topic, int(partitions), int(replicas))])
        check(answer.topic_errors[0][1])


async def describe_topic(bootstrap, topic):
    async with admin(bootstrap) as client:
        # Metadata creates a topic that is not there when the brokers are configured so.
        if topic not in await client.list_topics():
            sys.exit(f"no topic {topic}")
        [description] = await client.describe_topics([topic])
    check(description["error_code"])
    for p in sorted(description["partitions"], key=lambda p: p["partition"]):
        replicas, isr = (",".join(map(str, p[name])) for name in ("replicas", "isr"))
        print(p["partition"], p["leader"], replicas, isr, sep="\t")


async def delete_topic(bootstrap, topic):
    async with admin(bootstrap) as client:
        answer = await client.delete_topics([topic])
        check(answer.topic_error_codes[0][1])


async def list_topics(bootstrap):
    async with admin(bootstrap) as client:
        print(*sorted(await client.list_topics()), sep="\n")


async def committed(bootstrap, topic, group):
    async with admin(bootstrap) as client:
        offsets = await client.list_consumer_group_offsets(group)
    for partition, offset in sorted(offsets.items()):
        if partition.topic == topic:
            print(partition.partition, offset.offset, sep="\t")


async def produce(bootstrap, topic, compression):
    compression = None if compression == "none" else compression
    await send(bootstrap, topic, acks="all", enable_idempotence=True, compression_type=compression)


async def produce_acks(bootstrap, topic, acks):
    await send(bootstrap, topic, acks=acks if acks == "all" else int(acks))


async def stdin_lines():
    # The event loop reads pipes, but no files.
    partial = b""
    while chunk := await asyncio.to_thread(sys.stdin.buffer.read1, STDIN_CHUNK_BYTES):
        *lines, partial = (partial + chunk).split(b"\n")
        for line in lines:
            yield line


async def send(bootstrap, topic, **options):
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        linger_ms=5,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **options,
    )
    await producer.start()
    futures = []
    async for line in stdin_lines():
        key, value = line.split(b"\t", 1)
        futures.append(await producer.send(topic, value, key))
    await producer.flush()
    for future in futures:
        await asyncio.wait_for(future, TIMEOUT_SECONDS)
    await producer.stop()


def print_record(record):
    position = b"%d\t%d\t" % (record.partition, record.offset)
    sys.stdout.buffer.write(position + record.key + b"\t" + record.value + b"\n")


async def fetch(bootstrap, topic, partition, offset, count):
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    place = TopicPartition(topic, int(partition))
    consumer.assign([place])
    consumer.seek(place, int(offset))
    for _ in range(int(count)):
        print_record(await consumer.getone())
    await consumer.stop()


class Assigned(ConsumerRebalanceListener):
    async def on_partitions_revoked(self, revoked):
        pass

    async def on_partitions_assigned(self, assigned):
        print("assigned", len(assigned), file=sys.stderr, flush=True)


async def member(bootstrap, topic, group):
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest"
    )
    consumer.subscribe([topic], listener=Assigned())
    await consumer.start()
    while not stopping.is_set():
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                print_record(record)
        sys.stdout.buffer.flush()
    await consumer.stop()


async def version(_bootstrap):
    print(aiokafka.__version__)


COMMANDS = [
    version,
    create_topic,
    describe_topic,
    delete_topic,
    list_topics,
    committed,
    produce,
    produce_acks,
    fetch,
    member,
]

if __name__ == "__main__":
    bootstrap, command, *arguments = sys.argv[1:]
    commands = {f.__name__.replace("_", "-"): f for f in COMMANDS}
    asyncio.run(commands[command](bootstrap, *arguments))
