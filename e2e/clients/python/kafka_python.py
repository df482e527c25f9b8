"""Talks to a Kafka cluster with kafka-python for Klamm's tests; commands: ../README.md."""

import signal
import sys
import time

import kafka
from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    TopicPartition,
)
from kafka.admin import NewTopic

TIMEOUT_SECONDS = 60


def admin(bootstrap):
    return KafkaAdminClient(bootstrap_servers=bootstrap)


def create_topic(bootstrap, topic, partitions, replicas):
    admin(bootstrap).create_topics([NewTopic(topic, int(partitions), int(replicas))])


def describe_topic(bootstrap, topic):
    [description] = admin(bootstrap).describe_topics([topic])
    if description["error_code"] != 0:
        sys.exit(f"topic {topic}: error code {description['error_code']}")
    for p in sorted(description["partitions"], key=lambda p: p["partition_index"]):
        replicas = ",".join(map(str, p["replica_nodes"]))
        isr = ",".join(map(str, p["isr_nodes"]))
        print(p["partition_index"], p["leader_id"], replicas, isr, sep="\t")


def delete_topic(bootstrap, topic):
    admin(bootstrap).delete_topics([topic])


def list_topics(bootstrap):
    print(*sorted(admin(bootstrap).list_topics()), sep="\n")


def committed(bootstrap, topic, group):
    offsets = admin(bootstrap).list_group_offsets(group)[group]
    for partition, offset in sorted(offsets.items()):
        if partition.topic == topic:
            print(partition.partition, offset.offset, sep="\t")


def produce(bootstrap, topic, compression):
    compression = None if compression == "none" else compression
    send(bootstrap, topic, acks="all", enable_idempotence=True, compression_type=compression)


def produce_acks(bootstrap, topic, acks):
    acks = acks if acks == "all" else int(acks)
    send(bootstrap, topic, acks=acks, enable_idempotence=False)


def send(bootstrap, topic, **options):
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        delivery_timeout_ms=TIMEOUT_SECONDS * 1000,
        linger_ms=5,
        **options,
    )
    futures = []
    for line in sys.stdin.buffer:
        key, value = line.rstrip(b"\n").split(b"\t", 1)
        futures.append(producer.send(topic, value, key))
    producer.flush(TIMEOUT_SECONDS)
    for future in futures:
        future.get(0)
    producer.close()


def print_record(record):
    position = b"%d\t%d\t" % (record.partition, record.offset)
    sys.stdout.buffer.write(position + record.key + b"\t" + record.value + b"\n")


def fetch(bootstrap, topic, partition, offset, count):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    place = TopicPartition(topic, int(partition))
    consumer.assign([place])
    consumer.seek(place, int(offset))
    for _ in range(int(count)):
        print_record(next(consumer))
    consumer.close()


class Assigned(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        print("assigned", len(assigned), file=sys.stderr, flush=True)


def member(bootstrap, topic, group):
    stopping = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.append(True))
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest"
    )
    consumer.subscribe([topic], listener=Assigned())
    # Else it joins twice, for the topic is news to it then. A poll that ends between JoinGroup and
    # SyncGroup of such a second time never takes the partitions, nor sends heartbeats.
    while not consumer.partitions_for_topic(topic):
        time.sleep(0.1)
    while not stopping:
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                print_record(record)
        sys.stdout.buffer.flush()
    consumer.close()


def version(_bootstrap):
    print(kafka.__version__)


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
    {f.__name__.replace("_", "-"): f for f in COMMANDS}[command](bootstrap, *arguments)
