import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Copies a topic in transactions, each message to the partition that it came from, and goes on after
 * whatever happens. A transaction holds what one poll gave, so that it has ended before the next poll
 * may take partitions away.
 */
final class Copier implements ConsumerRebalanceListener {
    private static final int BATCH_MAX = 100;
    /** One transaction in so many is aborted on purpose. */
    private static final int ABORT_ONE_IN = 5;
    /** Short enough that one that nobody goes on with is over long before the round is. */
    private static final String TRANSACTION_TIMEOUT_MS = "10000";
    /** A copier that is busy for longer loses its partitions to the other one. */
    private static final String MAX_POLL_INTERVAL_MS = "20000";
    private static final Duration POLL = Duration.ofMillis(200);
    /** How long a transaction stays open that has room, and before what failed is done again. */
    private static final long PAUSE_MS = 200;
    private static final Duration CLOSE = Duration.ofSeconds(5);

    private final String source;
    private final String target;
    private final Properties producerSettings;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Random random = new Random();
    /** None after one that could not go on. */
    private KafkaProducer<byte[], byte[]> producer;
    /** Whether the next poll gives what comes after the committed offsets. */
    private boolean isPositioned;

    Copier(String bootstrap, String source, String target, String group, String transactionalId) {
        this.source = source;
        this.target = target;
        producerSettings = History.settings(bootstrap);
        producerSettings.put("transactional.id", transactionalId);
        producerSettings.put("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        producerSettings.put("delivery.timeout.ms", TRANSACTION_TIMEOUT_MS);
        producerSettings.put("max.block.ms", TRANSACTION_TIMEOUT_MS);
        Properties settings = History.settings(bootstrap, group);
        settings.put("isolation.level", "read_committed");
        settings.put("max.poll.records", String.valueOf(BATCH_MAX));
        settings.put("max.poll.interval.ms", MAX_POLL_INTERVAL_MS);
        // Positions are always those that the group has committed.
        settings.put("auto.offset.reset", "none");
        consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Copies until the program is told to stop. */
    void run() throws InterruptedException {
        try (consumer) {
            consumer.subscribe(List.of(source), this);
            while (!History.stop) {
                try {
                    copyNext();
                } catch (KafkaException | IllegalStateException error) {
                    isPositioned = false;
                    History.say("reset", History.now(), History.text(error));
                    Thread.sleep(PAUSE_MS);
                }
            }
        } finally {
            closeProducer(CLOSE);
        }
        History.say("end", History.now(), 0);
    }

    private void copyNext() throws InterruptedException {
        if (producer == null) {
            producer = new KafkaProducer<>(producerSettings, new ByteArraySerializer(), new ByteArraySerializer());
            initialize();
        }
        if (!isPositioned) {
            seekToCommitted();
        }
        ConsumerRecords<byte[], byte[]> messages = consumer.poll(POLL);
        if (isPositioned && !messages.isEmpty()) {
            copy(messages);
        }
    }

    /** From here on nothing of an earlier producer with this id is under way. */
    private void initialize() {
        try {
            producer.initTransactions();
        } catch (KafkaException error) {
            closeProducer(Duration.ZERO);
            throw error;
        }
    }

    private void closeProducer(Duration limit) {
        KafkaProducer<byte[], byte[]> closing = producer;
        producer = null;
        if (closing != null) {
            closing.close(limit);
        }
    }

    private void seekToCommitted() {
        Set<TopicPartition> partitions = consumer.assignment();
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(partitions, History.ASK);
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        for (TopicPartition partition : partitions) {
            OffsetAndMetadata offset = committed.get(partition);
            positions.put(partition, offset == null ? new OffsetAndMetadata(0) : offset);
        }
        positions.forEach(consumer::seek);
        sayCopied(positions);
        isPositioned = true;
    }

    private void copy(ConsumerRecords<byte[], byte[]> messages) throws InterruptedException {
        try {
            producer.beginTransaction();
            for (ConsumerRecord<byte[], byte[]> message : messages) {
                producer.send(new ProducerRecord<>(target, message.partition(), message.key(), message.value()));
            }
            if (messages.count() < BATCH_MAX) {
                Thread.sleep(PAUSE_MS);
            }
            producer.sendOffsetsToTransaction(messages.nextOffsets(), consumer.groupMetadata());
            if (random.nextInt(ABORT_ONE_IN) == 0) {
                isPositioned = false;
                producer.flush();
                producer.abortTransaction();
                History.say("aborted", History.now(), "on purpose");
            } else {
                commit();
                sayCopied(messages.nextOffsets());
            }
        } catch (KafkaException | IllegalStateException error) {
            isPositioned = false;
            abort(error);
        }
    }

    /** After a time-out it may be asked for again, but nothing else may. */
    private void commit() {
        try {
            producer.commitTransaction();
        } catch (TimeoutException error) {
            producer.commitTransaction();
        }
    }

    /** Aborts after an error; a producer that can't, as it is fenced or its commit may have happened, is replaced. */
    private void abort(RuntimeException cause) {
        try {
            producer.abortTransaction();
            History.say("aborted", History.now(), History.text(cause));
        } catch (KafkaException | IllegalStateException error) {
            History.say("replaced", History.now(), History.text(cause));
            closeProducer(Duration.ZERO);
        }
    }

    private static void sayCopied(Map<TopicPartition, OffsetAndMetadata> positions) {
        positions.forEach((partition, position) -> History.say(
                "copied", History.now(), partition.topic(), partition.partition(), position.offset()));
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        isPositioned = false;
        try {
            seekToCommitted();
        } catch (KafkaException error) {
            // They are asked for again before anything is copied.
            History.say("reset", History.now(), History.text(error));
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        // No transaction is open in a poll.
    }
}
