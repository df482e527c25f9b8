import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/** Counts words with Kafka Streams, exactly once, for Klamm's tests; arguments and output: ../README.md. */
public final class WordCount {
    private static final Serde<String> STRING = Serdes.String();
    private static final Duration GRACE = Duration.ofDays(1);
    private static final Duration CLOSE = Duration.ofSeconds(30);

    public static void main(String[] arguments) throws IOException {
        String prefix = arguments[1];
        KafkaStreams streams = new KafkaStreams(
            topology(prefix, Long.parseLong(arguments[3]), Duration.ofMillis(Long.parseLong(arguments[4]))),
            settings(arguments[0], prefix, arguments[2]));
        streams.setStateListener((now, before) -> say("state", now));
        streams.setGlobalStateRestoreListener(new Restored());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> say("closed", streams.close(CLOSE))));
        streams.start();
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String command = commands.readLine(); command != null; command = commands.readLine()) {
            printStore(streams, command);
        }
    }

    private static Properties settings(String bootstrap, String application, String directory) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        // Every step of a count is sent, so that a reader sees whether one was taken twice.
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        // A new instance gets its share, and restores it, at once; it would warm up for minutes otherwise.
        settings.put(StreamsConfig.ACCEPTABLE_RECOVERY_LAG_CONFIG, Long.MAX_VALUE);
        // An instance that was killed is missed soon.
        settings.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        return settings;
    }

    /** Words are counted as they are, in windows of event time, and by what kind of word a table says that they are. */
    private static Topology topology(String prefix, long beginMs, Duration window) {
        StreamsBuilder builder = new StreamsBuilder();
        TimestampExtractor eventTime = (line, partitionTime) -> beginMs + number(line);
        KStream<String, String> words = builder
            .stream(prefix + "-lines", Consumed.with(STRING, STRING).withTimestampExtractor(eventTime))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .selectKey((number, word) -> word)
            .repartition(Repartitioned.<String, String>as("words").withKeySerde(STRING).withValueSerde(STRING));
        KTable<String, Long> counts = words.groupByKey().count(Materialized.as("counts"));
        send(counts.toStream(), prefix + "-counts");
        KStream<String, Long> windows = words.groupByKey()
            .windowedBy(TimeWindows.ofSizeAndGrace(window, GRACE))
            .count(Named.as("windows"), Materialized.as("windows"))
            .toStream((key, count) -> key.key() + "@" + (key.window().start() - beginMs) / window.toMillis());
        send(windows, prefix + "-windows");
        GlobalKTable<String, String> kinds = builder.globalTable(prefix + "-kinds", Consumed.with(STRING, STRING));
        KTable<String, Long> ofKinds = words
            .join(kinds, (word, same) -> word, (word, kind) -> kind)
            .groupBy((word, kind) -> kind, Grouped.<String, String>as("kinds").withKeySerde(STRING).withValueSerde(STRING))
            .count(Materialized.as("of-kinds"));
        send(ofKinds.toStream(), prefix + "-of-kinds");
        return builder.build();
    }

    private static long number(ConsumerRecord<Object, Object> line) {
        return Long.parseLong(line.key().toString());
    }

    private static void send(KStream<String, Long> counts, String topic) {
        counts.mapValues(count -> count.toString()).to(topic, Produced.with(STRING, STRING));
    }

    /** What this instance has of a store of counts, once it runs. */
    private static void printStore(KafkaStreams streams, String store) {
        try (KeyValueIterator<String, Long> all = streams
                .store(StoreQueryParameters.fromNameAndType(store, QueryableStoreTypes.<String, Long>keyValueStore()))
                .all()) {
            while (all.hasNext()) {
                KeyValue<String, Long> entry = all.next();
                say("stored", store, entry.key, entry.value);
            }
        }
        say("printed", store);
    }

    private static synchronized void say(Object... fields) {
        StringBuilder line = new StringBuilder();
        for (Object field : fields) {
            line.append(line.isEmpty() ? "" : " ").append(field);
        }
        System.out.println(line);
    }

    /** Says how many records of its changelog each store was restored from. */
    private static final class Restored implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long begin, long end) {
            // Its end tells all.
        }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long end, long count) {
            // Its end tells all.
        }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) {
            say("restored", store, partition.partition(), total);
        }
    }
}
