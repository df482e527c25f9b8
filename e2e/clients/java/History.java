import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.UnknownProducerIdException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import sun.misc.Signal;

/**
 * Drives Kafka's own Java client for the fault injection and prints the history that
 * ../python/history.py describes: its commands produce and member, and copy, which is {@link Copier}.
 */
public final class History {
    /** Messages on their way: while a partition has no leader, no more than these wait for it. */
    private static final int OUTSTANDING_MAX = 2000;
    private static final int KEYS = 97;
    private static final Duration FLUSH = Duration.ofSeconds(90);
    static final Duration ASK = Duration.ofSeconds(5);

    static volatile boolean stop;

    public static void main(String[] arguments) throws InterruptedException {
        Signal.handle(new Signal("TERM"), signal -> stop = true);
        String bootstrap = arguments[0];
        List<String> rest = Arrays.asList(arguments).subList(2, arguments.length);
        switch (arguments[1]) {
            case "produce" -> produce(bootstrap, rest.get(0), Integer.parseInt(rest.get(1)), rest.subList(2, rest.size()));
            case "member" -> member(bootstrap, rest.get(0), rest.subList(1, rest.size()));
            case "copy" -> new Copier(bootstrap, rest.get(0), rest.get(1), rest.get(2), rest.get(3)).run();
            default -> throw new IllegalArgumentException("unknown command " + arguments[1]);
        }
        System.out.flush();
    }

    static long now() {
        return System.nanoTime() / 1000;
    }

    static synchronized void say(Object... fields) {
        StringBuilder line = new StringBuilder();
        for (Object field : fields) {
            line.append(line.isEmpty() ? "" : " ").append(field);
        }
        System.out.println(line);
    }

    static String text(Exception error) {
        return String.valueOf(error).replace('\n', ' ');
    }

    /** Clients notice a silent broker, and try again, faster than by default. */
    static Properties settings(String bootstrap) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("request.timeout.ms", "6000");
        settings.put("socket.connection.setup.timeout.ms", "2000");
        settings.put("reconnect.backoff.max.ms", "500");
        settings.put("metadata.max.age.ms", "5000");
        return settings;
    }

    private static byte[] value(String producer, long number) {
        String filler = ".".repeat((int) (number * 2654435761L % 200));
        return (producer + " " + number + " " + filler + "|").getBytes(StandardCharsets.UTF_8);
    }

    /** Sends to every partition of the topics, TOPIC:PARTITIONS each, in turn. */
    private static void produce(String bootstrap, String name, int perSecond, List<String> topics)
            throws InterruptedException {
        List<TopicPartition> targets = new ArrayList<>();
        for (String topic : topics) {
            String[] parts = topic.split(":");
            for (int partition = 0; partition < Integer.parseInt(parts[1]); partition++) {
                targets.add(new TopicPartition(parts[0], partition));
            }
        }
        Properties settings = settings(bootstrap);
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        settings.put("delivery.timeout.ms", "180000");
        settings.put("linger.ms", "5");
        settings.put("max.block.ms", "60000");
        Semaphore room = new Semaphore(OUTSTANDING_MAX);
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            long pause = 1_000_000_000L / perSecond;
            long next = System.nanoTime();
            long number = 0;
            while (!stop) {
                if (!room.tryAcquire(100, TimeUnit.MILLISECONDS)) {
                    continue;
                }
                send(producer, targets.get((int) (number % targets.size())), name + ".0", number, room);
                number++;
                next = Math.max(next + pause, System.nanoTime() - 1_000_000_000L);
                Thread.sleep(Math.max(0, (next - System.nanoTime()) / 1_000_000));
            }
            producer.close(FLUSH);
            say("end", now(), OUTSTANDING_MAX - room.availablePermits());
        }
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, TopicPartition to, String name, long number, Semaphore room) {
        byte[] key = (name + "-" + number % KEYS).getBytes(StandardCharsets.UTF_8);
        say("invoke", now(), to.topic(), to.partition(), name, number);
        producer.send(new ProducerRecord<>(to.topic(), to.partition(), key, value(name, number)), (place, error) -> {
            room.release();
            sayDelivered(to, place, error, name, number);
        });
    }

    private static void sayDelivered(TopicPartition to, RecordMetadata place, Exception error, String name, long number) {
        if (error == null) {
            Object offset = place.hasOffset() ? place.offset() : "None";
            say("ok", now(), to.topic(), to.partition(), offset, name, number);
            return;
        }
        say("info", now(), to.topic(), to.partition(), name, number, text(error));
        // After these the client goes on with a new sequence, and what it had sent is unknown.
        if (error instanceof OutOfOrderSequenceException
                || error instanceof UnknownProducerIdException
                || error instanceof ProducerFencedException) {
            say("fatal", now(), name, text(error));
        }
    }

    /** Those of a member of a group. */
    static Properties settings(String bootstrap, String group) {
        Properties settings = settings(bootstrap);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("session.timeout.ms", "6000");
        settings.put("heartbeat.interval.ms", "1000");
        settings.put("fetch.max.wait.ms", "200");
        settings.put("default.api.timeout.ms", "6000");
        return settings;
    }

    /** A member of a group that commits what it has printed, and says where it begins. */
    private static void member(String bootstrap, String group, List<String> topics) {
        Properties settings = settings(bootstrap, group);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            Member member = new Member(consumer);
            consumer.subscribe(topics, member);
            long committed = System.nanoTime();
            while (!stop) {
                for (ConsumerRecord<byte[], byte[]> message : consumer.poll(Duration.ofMillis(200))) {
                    sayRead(message);
                    member.positions.put(
                            new TopicPartition(message.topic(), message.partition()),
                            new OffsetAndMetadata(message.offset() + 1));
                }
                if (System.nanoTime() - committed > 1_000_000_000L) {
                    member.commit();
                    committed = System.nanoTime();
                }
            }
            member.commit();
        }
        say("end", now(), 0);
    }

    /** A message whose content is not what its number says is printed as torn. */
    private static void sayRead(ConsumerRecord<byte[], byte[]> message) {
        String content = new String(message.value(), StandardCharsets.UTF_8);
        String[] parts = content.split(" ");
        boolean intact = parts.length == 3
                && parts[1].matches("[0-9]{1,9}")
                && Arrays.equals(message.value(), value(parts[0], Long.parseLong(parts[1])));
        if (intact) {
            say("read", now(), message.topic(), message.partition(), message.offset(), parts[0], parts[1]);
        } else {
            say("torn", now(), message.topic(), message.partition(), message.offset());
        }
    }

    private static final class Member implements ConsumerRebalanceListener {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();

        Member(KafkaConsumer<byte[], byte[]> consumer) {
            this.consumer = consumer;
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            positions.clear();
            long asked = now();
            try {
                Map<TopicPartition, OffsetAndMetadata> committed =
                        consumer.committed(new HashSet<>(partitions), ASK);
                for (TopicPartition partition : partitions) {
                    OffsetAndMetadata known = committed.get(partition);
                    long offset = known == null ? 0 : known.offset();
                    say("assigned", asked, partition.topic(), partition.partition(), offset);
                    consumer.seek(partition, offset);
                }
            } catch (KafkaException error) {
                say("begins", now());
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit();
            onPartitionsLost(partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            positions.clear();
            say("revoked", now());
        }

        void commit() {
            if (positions.isEmpty()) {
                return;
            }
            try {
                consumer.commitSync(positions, ASK);
                positions.forEach((partition, position) ->
                        say("commit", now(), partition.topic(), partition.partition(), position.offset()));
            } catch (KafkaException error) {
                say("uncommitted", now(), text(error));
            }
        }
    }
}
