"""Drives confluent-kafka (librdkafka) for the fault injection and prints a history; see ../README.md.

Each line is an operation, its time in microseconds of the monotonic clock, and its fields.
"""

import faulthandler
import signal
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

STOP = []
# Messages on their way: while a partition has no leader, no more than these wait for it.
OUTSTANDING_MAX = 2000
TICK_SECONDS = 0.02
FLUSH_SECONDS = 90
# How long a member asks where its group was. Without an answer it leaves that to librdkafka, which asks
# once: told that the coordinator moved, it reads nothing for as long as it keeps the partitions.
COMMITTED_SECONDS = 5
# How long the end of a log is waited for, which an open transaction keeps from readers.
READ_SECONDS = 60
KEYS = 97
# Clients notice a silent broker, and try again, faster than by default.
NETWORK = {
    "socket.timeout.ms": 6000,
    "socket.connection.setup.timeout.ms": 2000,
    "reconnect.backoff.max.ms": 500,
    "topic.metadata.refresh.interval.ms": 5000,
}


def now():
    return time.monotonic_ns() // 1000


def say(*fields):
    sys.stdout.write(" ".join(map(str, fields)) + "\n")


def text(error):
    return str(error).replace("\n", " ")


def value(producer, number):
    filler = "." * (number * 2654435761 % 200)
    return f"{producer} {number} {filler}|".encode()


def say_read(message):
    """A message whose content is not what its number says is printed as torn."""
    content = message.value()
    where = (message.topic(), message.partition(), message.offset())
    try:
        producer, number, _ = content.decode().split(" ")
        intact = content == value(producer, int(number))
    except ValueError:
        intact = False
    if intact:
        say("read", now(), *where, producer, number)
    else:
        say("torn", now(), *where, content[:40].hex())


def partitions(topics):
    """Those of TOPIC:PARTITIONS each."""
    return [
        (topic, partition)
        for topic, count in (t.split(":") for t in topics)
        for partition in range(int(count))
    ]


class Sender:
    """One producer instance; its name is in every message that it sends."""

    def __init__(self, bootstrap, name):
        self.name = name
        self.fatal = False
        self.producer = Producer(
            NETWORK
            | {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "request.timeout.ms": 5000,
                "message.timeout.ms": 180000,
                "linger.ms": 5,
                "error_cb": self.failed,
            }
        )

    def failed(self, error):
        if error.fatal():
            say("fatal", now(), self.name, text(error))
            self.fatal = True

    def send(self, topic, partition, number):
        def delivered(error, message):
            if error is None:
                say("ok", now(), topic, partition, message.offset(), self.name, number)
            else:
                say("info", now(), topic, partition, self.name, number, text(error))

        say("invoke", now(), topic, partition, self.name, number)
        key = f"{self.name}-{number % KEYS}"
        self.producer.produce(
            topic, value(self.name, number), key, partition, on_delivery=delivered
        )


def produce(bootstrap, name, per_second, *topics):
    """Sends to every partition of the topics, TOPIC:PARTITIONS each, in turn."""
    targets = partitions(topics)
    instance, sender, number, credit = 0, Sender(bootstrap, f"{name}.0"), 0, 0.0
    last = time.monotonic()
    while not STOP:
        elapsed, last = time.monotonic() - last, time.monotonic()
        credit = min(credit + elapsed * float(per_second), float(per_second))
        while credit >= 1 and len(sender.producer) < OUTSTANDING_MAX:
            topic, partition = targets[number % len(targets)]
            sender.send(topic, partition, number)
            number, credit = number + 1, credit - 1
        sender.producer.poll(TICK_SECONDS)
        sys.stdout.flush()
        if sender.fatal:
            sender.producer.purge()
            sender.producer.flush(5)
            instance += 1
            sender = Sender(bootstrap, f"{name}.{instance}")
    sender.producer.flush(FLUSH_SECONDS)
    say("end", now(), len(sender.producer))


class Member:
    """A member of a group that commits what it has printed, and says where it begins."""

    def __init__(self, bootstrap, group, topics):
        self.consumer = Consumer(
            NETWORK
            | {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1000,
                "check.crcs": True,
                "fetch.wait.max.ms": 200,
            }
        )
        self.positions = {}
        self.consumer.subscribe(topics, on_assign=self.assigned, on_revoke=self.revoked)

    def assigned(self, consumer, partitions):
        asked = now()
        self.positions = {}
        offsets = self.committed(consumer, partitions)
        for offset in offsets:
            if offset.error is None:
                say("assigned", asked, offset.topic, offset.partition, max(offset.offset, 0))
                if offset.offset < 0:
                    offset.offset = OFFSET_BEGINNING
        usable = offsets and all(offset.error is None for offset in offsets)
        if not usable:
            say("begins", now())
        consumer.assign(offsets if usable else partitions)

    def committed(self, consumer, partitions):
        deadline = time.monotonic() + COMMITTED_SECONDS
        while time.monotonic() < deadline:
            try:
                return consumer.committed(partitions, timeout=COMMITTED_SECONDS)
            except KafkaException as error:
                say("unanswered", now(), text(error))
                time.sleep(TICK_SECONDS)
        return []

    def revoked(self, consumer, partitions):
        self.commit()
        self.positions = {}
        say("revoked", now())

    def commit(self):
        if not self.positions:
            return
        positions = [TopicPartition(t, p, o) for (t, p), o in self.positions.items()]
        try:
            for done in self.consumer.commit(offsets=positions, asynchronous=False):
                if done.error is None:
                    say("commit", now(), done.topic, done.partition, done.offset)
        except KafkaException as error:
            say("uncommitted", now(), text(error))

    def poll(self):
        for message in self.consumer.consume(200, timeout=0.2):
            error = message.error()
            if error is None:
                say_read(message)
                self.positions[message.topic(), message.partition()] = message.offset() + 1
            elif error.code() == KafkaError._AUTO_OFFSET_RESET or error.fatal():
                say("reset", now(), text(error))


def member(bootstrap, group, *topics):
    consumer = Member(bootstrap, group, list(topics))
    committed = time.monotonic()
    while not STOP:
        consumer.poll()
        if time.monotonic() - committed > 1:
            consumer.commit()
            committed = time.monotonic()
        sys.stdout.flush()
    consumer.commit()
    consumer.consumer.close()
    say("end", now(), 0)


def reader(bootstrap, isolation):
    """A consumer that belongs to no group."""
    return Consumer(
        NETWORK
        | {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
            "enable.partition.eof": True,
            "isolation.level": isolation,
        }
    )


def from_beginning(topics):
    return [TopicPartition(*where, OFFSET_BEGINNING) for where in partitions(topics)]


def watch(bootstrap, *topics):
    """Prints topics, TOPIC:PARTITIONS each, as their transactions are committed."""
    consumer = reader(bootstrap, "read_committed")
    consumer.assign(from_beginning(topics))
    while not STOP:
        for message in consumer.consume(200, timeout=0.2):
            if message.error() is None:
                say_read(message)
        sys.stdout.flush()
    consumer.close()
    say("end", now(), 0)


def log_ends(bootstrap, topics):
    """The ends of logs, behind transactions that are not over, too."""
    consumer = reader(bootstrap, "read_uncommitted")
    ends = {where: log_end(consumer, TopicPartition(*where)) for where in partitions(topics)}
    consumer.close()
    return ends


def log_end(consumer, partition):
    """The lead may be on its way back to the preferred leader: librdkafka does not ask the next one."""
    deadline = time.monotonic() + READ_SECONDS
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=30)[1]
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(TICK_SECONDS)


def read(bootstrap, *topics):
    """Prints what is committed of whole topics, TOPIC:PARTITIONS each, up to their ends at the time of the call."""
    ends = log_ends(bootstrap, topics)
    left = {where for where, end in ends.items() if end > 0}
    consumer = reader(bootstrap, "read_committed")
    consumer.assign(from_beginning(topics))
    deadline = time.monotonic() + READ_SECONDS
    while left and time.monotonic() < deadline and not STOP:
        for message in consumer.consume(1000, timeout=0.5):
            where = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                say_read(message)
            # Not told by the last message: the markers of transactions have offsets, too.
            elif error.code() == KafkaError._PARTITION_EOF and message.offset() >= ends[where]:
                left.discard(where)
    for (topic, partition), end in ends.items():
        say("extent", now(), topic, partition, end)
    consumer.close()
    say("end", now(), len(left))


if __name__ == "__main__":
    faulthandler.register(signal.SIGQUIT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: STOP.append(True))
    bootstrap, command, *arguments = sys.argv[1:]
    {f.__name__: f for f in (produce, member, watch, read)}[command](bootstrap, *arguments)
    sys.stdout.flush()
