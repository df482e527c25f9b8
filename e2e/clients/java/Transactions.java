import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Transactions of Kafka's own Java client for Klamm's tests; commands: ../README.md. */
public final class Transactions {
    private static final Duration POLL = Duration.ofMillis(500);

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        for (int start = 1; start < arguments.length; ) {
            int end = start;
            while (end < arguments.length && !arguments[end].equals("then")) {
                end++;
            }
            run(bootstrap, Arrays.copyOfRange(arguments, start, end));
            start = end + 1;
        }
        System.out.flush();
    }

    private static void run(String bootstrap, String[] command) throws Exception {
        String topic = command[1];
        switch (command[0]) {
            case "rounds" -> rounds(bootstrap, topic, command[2], Integer.parseInt(command[3]));
            case "copy" -> copy(bootstrap, topic, command[2], command[3], Integer.parseInt(command[4]));
            case "fence" -> fence(bootstrap, topic, command[2]);
            case "wait" -> waitThenCommit(bootstrap, topic, command[2], Path.of(command[3]));
            case "leave" -> leave(bootstrap, topic, command[2], command[3]);
            case "until" -> until(bootstrap, command[1], command[2]);
            case "read" -> read(bootstrap, topic, command[2]);
            default -> throw new IllegalArgumentException("unknown command " + command[0]);
        }
    }

    private static KafkaProducer<String, String> producer(String bootstrap, String id, String timeoutMs) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("transactional.id", id);
        settings.put("transaction.timeout.ms", timeoutMs);
        settings.put("key.serializer", StringSerializer.class.getName());
        settings.put("value.serializer", StringSerializer.class.getName());
        KafkaProducer<String, String> producer = new KafkaProducer<>(settings);
        producer.initTransactions();
        return producer;
    }

    private static KafkaConsumer<String, String> consumer(String bootstrap, String group, String isolation) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("group.id", group);
        settings.put("isolation.level", isolation);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("key.deserializer", StringDeserializer.class.getName());
        settings.put("value.deserializer", StringDeserializer.class.getName());
        return new KafkaConsumer<>(settings);
    }

    private static void sendToEach(KafkaProducer<String, String> producer, String topic, String value) {
        for (PartitionInfo partition : producer.partitionsFor(topic)) {
            producer.send(new ProducerRecord<>(topic, partition.partition(), "k", value));
        }
    }

    /** Transactions with a record for each partition; every second one is aborted. */
    private static void rounds(String bootstrap, String topic, String id, int count) {
        try (KafkaProducer<String, String> producer = producer(bootstrap, id, "60000")) {
            for (int round = 0; round < count; round++) {
                producer.beginTransaction();
                sendToEach(producer, topic, "round-" + round);
                if (round % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.flush();
                    producer.abortTransaction();
                }
            }
        }
    }

    /** Copies that many records, with their offsets, in transactions of which every second is done again. */
    private static void copy(String bootstrap, String source, String target, String group, int count) {
        try (KafkaProducer<String, String> producer = producer(bootstrap, group + "-id", "60000");
                KafkaConsumer<String, String> consumer = consumer(bootstrap, group, "read_committed")) {
            consumer.subscribe(List.of(source));
            boolean again = true;
            for (int copied = 0; copied < count; ) {
                ConsumerRecords<String, String> records = consumer.poll(POLL);
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> record : records) {
                    producer.send(new ProducerRecord<>(target, record.key(), record.value()));
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                if (again) {
                    producer.flush();
                    producer.abortTransaction();
                    Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(offsets.keySet());
                    for (TopicPartition partition : offsets.keySet()) {
                        OffsetAndMetadata at = committed.get(partition);
                        consumer.seek(partition, at == null ? 0 : at.offset());
                    }
                } else {
                    producer.commitTransaction();
                    copied += records.count();
                }
                again = !again;
            }
        }
    }

    /** A second producer takes over the id of the first, in the middle of a transaction. */
    private static void fence(String bootstrap, String topic, String id) {
        KafkaProducer<String, String> first = producer(bootstrap, id, "60000");
        first.beginTransaction();
        sendToEach(first, topic, "first");
        first.flush();
        try (KafkaProducer<String, String> second = producer(bootstrap, id, "60000")) {
            try {
                sendToEach(first, topic, "late");
                first.commitTransaction();
                System.out.println("not fenced");
            } catch (ProducerFencedException | InvalidProducerEpochException fenced) {
                System.out.println("fenced");
            }
            second.beginTransaction();
            sendToEach(second, topic, "second");
            second.commitTransaction();
        } finally {
            first.close(Duration.ZERO);
        }
    }

    /** Commits once the file is there. */
    private static void waitThenCommit(String bootstrap, String topic, String id, Path file) throws Exception {
        try (KafkaProducer<String, String> producer = producer(bootstrap, id, "60000")) {
            producer.beginTransaction();
            sendToEach(producer, topic, "before");
            producer.flush();
            System.out.println("open");
            System.out.flush();
            while (!Files.exists(file)) {
                Thread.sleep(20);
            }
            sendToEach(producer, topic, "after");
            producer.commitTransaction();
        }
    }

    /** Leaves a transaction open. */
    private static void leave(String bootstrap, String topic, String id, String timeoutMs) {
        KafkaProducer<String, String> producer = producer(bootstrap, id, timeoutMs);
        producer.beginTransaction();
        sendToEach(producer, topic, "left");
        producer.flush();
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    /** Waits until the transactional id is in that state. */
    private static void until(String bootstrap, String id, String state) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            TransactionState present = TransactionState.UNKNOWN;
            while (!present.toString().equals(state)) {
                present = admin.describeTransactions(List.of(id)).description(id).get().state();
                Thread.sleep(50);
            }
        }
    }

    /** Prints topic, isolation and value of each record, once the transactions have ended that have begun. */
    private static void read(String bootstrap, String topic, String isolation) {
        List<TopicPartition> partitions;
        Map<TopicPartition, Long> ends;
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap, "none", "read_uncommitted")) {
            partitions = consumer.partitionsFor(topic).stream()
                .map(partition -> new TopicPartition(topic, partition.partition()))
                .toList();
            ends = consumer.endOffsets(partitions);
        }
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap, "none", isolation)) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (ConsumerRecord<String, String> record : consumer.poll(POLL)) {
                    System.out.println(topic + "\t" + isolation + "\t" + record.value());
                }
            }
        }
    }
}
