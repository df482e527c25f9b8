"""Transactions of confluent-kafka for Klamm's tests; commands: ../README.md."""

import sys
from itertools import groupby

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

TIMEOUT_SECONDS = 60


def producer(bootstrap, transactional_id):
    client = Producer({"bootstrap.servers": bootstrap, "transactional.id": transactional_id})
    client.init_transactions(TIMEOUT_SECONDS)
    return client


def rounds(bootstrap, topic, transactional_id, count):
    """Transactions with a message for each partition; every second one is aborted."""
    client = producer(bootstrap, transactional_id)
    partitions = client.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
    for number in range(int(count)):
        client.begin_transaction()
        for partition in partitions:
            client.produce(topic, f"round-{number}", "k", partition)
        if number % 2 == 0:
            client.commit_transaction(TIMEOUT_SECONDS)
        else:
            client.flush(TIMEOUT_SECONDS)
            client.abort_transaction(TIMEOUT_SECONDS)


def copy(bootstrap, source, target, group, count):
    """Copies that many messages, with their offsets, in transactions of up to 50."""
    client = producer(bootstrap, group + "-id")
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    })
    consumer.subscribe([source])
    copied = 0
    while copied < int(count):
        messages = consumer.consume(50, 1.0)
        if not messages:
            continue
        client.begin_transaction()
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            client.produce(target, message.value(), message.key())
        positions = consumer.position(consumer.assignment())
        offsets = [TopicPartition(p.topic, p.partition, p.offset) for p in positions if p.offset >= 0]
        client.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        client.commit_transaction(TIMEOUT_SECONDS)
        copied += len(messages)
    consumer.close()


def fence(bootstrap, topic, transactional_id):
    """A second producer takes over the id of the first, in the middle of a transaction."""
    first = producer(bootstrap, transactional_id)
    first.begin_transaction()
    first.produce(topic, "first", "k", 0)
    first.flush(TIMEOUT_SECONDS)
    second = producer(bootstrap, transactional_id)
    try:
        first.commit_transaction(TIMEOUT_SECONDS)
        print("not fenced")
    except KafkaException as error:
        print("fenced" if error.args[0].fatal() else error)
    second.begin_transaction()
    second.produce(topic, "second", "k", 0)
    second.commit_transaction(TIMEOUT_SECONDS)


def reader(bootstrap, isolation):
    return Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "none",
        "isolation.level": isolation,
        "enable.partition.eof": True,
    })


def read(bootstrap, topic, isolation):
    """Prints topic, isolation and value of each message, once the transactions have ended that have begun."""
    any_reader = reader(bootstrap, "read_uncommitted")
    partitions = any_reader.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
    ends = {}
    for partition in partitions:
        ends[partition] = any_reader.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT_SECONDS)[1]
    any_reader.close()
    consumer = reader(bootstrap, isolation)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    while ends:
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                print(topic, isolation, message.value().decode(), sep="\t")
            elif message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())
            elif message.offset() >= ends.get(message.partition(), 0):
                ends.pop(message.partition(), None)
    consumer.close()


COMMANDS = {"rounds": rounds, "copy": copy, "fence": fence, "read": read}

if __name__ == "__main__":
    _, address, *arguments = sys.argv
    for _, command in groupby(arguments, lambda argument: argument == "then"):
        name, *rest = command
        if name != "then":
            COMMANDS[name](address, *rest)
