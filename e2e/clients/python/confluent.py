"""Talks to a Kafka cluster with confluent-kafka for Klamm's tests; commands: ../README.md."""

import signal
import sys

import confluent_kafka
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT_SECONDS = 60


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap})


def create_topic(bootstrap, topic, partitions, replicas):
    new = NewTopic(topic, int(partitions), int(replicas))
    client = admin(bootstrap)
    for future in client.create_topics([new], operation_timeout=30).values():
        future.result(TIMEOUT_SECONDS)


def describe_topic(bootstrap, topic):
    client = admin(bootstrap)
    for future in client.describe_topics(TopicCollection([topic])).values():
        for partition in future.result(TIMEOUT_SECONDS).partitions:
            replicas = ",".join(str(node.id) for node in partition.replicas)
            isr = ",".join(str(node.id) for node in partition.isr)
            print(partition.id, partition.leader.id, replicas, isr, sep="\t")


def delete_topic(bootstrap, topic):
    client = admin(bootstrap)
    for future in client.delete_topics([topic], operation_timeout=30).values():
        future.result(TIMEOUT_SECONDS)


def list_topics(bootstrap):
    print(*sorted(admin(bootstrap).list_topics(timeout=TIMEOUT_SECONDS).topics), sep="\n")


def committed(bootstrap, topic, group):
    client = admin(bootstrap)
    partitions = client.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in partitions])
    for future in client.list_consumer_group_offsets([request]).values():
        for offset in sorted(future.result(TIMEOUT_SECONDS).topic_partitions):
            if offset.error is not None:
                raise KafkaException(offset.error)
            print(offset.partition, offset.offset, sep="\t")


def produce(bootstrap, topic, compression):
    idempotent = {"acks": "all", "enable.idempotence": True}
    send(bootstrap, topic, idempotent | {"compression.type": compression})


def produce_acks(bootstrap, topic, acks):
    send(bootstrap, topic, {"acks": acks})


def send(bootstrap, topic, options):
    failures = []

    def delivered(error, _message):
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "delivery.timeout.ms": TIMEOUT_SECONDS * 1000,
            "linger.ms": 5,
            **options,
        }
    )
    for line in sys.stdin.buffer:
        key, value = line.rstrip(b"\n").split(b"\t", 1)
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(TIMEOUT_SECONDS)
    if failures or left:
        sys.exit(f"{len(failures)} messages failed, {left} were not answered: {failures[:1]}")


def print_message(message):
    if message.error() is not None:
        raise KafkaException(message.error())
    position = b"%d\t%d\t" % (message.partition(), message.offset())
    sys.stdout.buffer.write(position + message.key() + b"\t" + message.value() + b"\n")


def fetch(bootstrap, topic, partition, offset, count):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            # It takes a group to have a consumer, which joins none here.
            "group.id": "confluent-kafka-fetch",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(topic, int(partition), int(offset))])
    left = int(count)
    while left > 0:
        for message in consumer.consume(left, timeout=1):
            print_message(message)
            left -= 1
    consumer.close()


def member(bootstrap, topic, group, protocol="classic"):
    stopping = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.append(True))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "group.protocol": protocol,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
        }
    )

    consumer.subscribe([topic])
    assigned = 0
    while not stopping:
        for message in consumer.consume(500, timeout=0.2):
            print_message(message)
            consumer.store_offsets(message)
        sys.stdout.buffer.flush()
        if len(consumer.assignment()) != assigned:
            assigned = len(consumer.assignment())
            print("assigned", assigned, file=sys.stderr, flush=True)
    consumer.close()


def version(_bootstrap):
    print(f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})")


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
