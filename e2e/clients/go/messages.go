package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// deliveryTimeout bounds the retries of one message.
	deliveryTimeout = 60 * time.Second
	// closeTimeout bounds the last commit of a member that was told to stop.
	closeTimeout = 20 * time.Second
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// produce sends the lines of stdin, with acks=all and idempotence, which are franz-go's defaults.
func produce(ctx context.Context, seed kgo.Opt, arguments []string) error {
	codec, known := codecs[arguments[1]]
	if !known {
		return fmt.Errorf("unknown compression %q", arguments[1])
	}
	client, err := kgo.NewClient(
		seed,
		kgo.DefaultProduceTopic(arguments[0]),
		kgo.ProducerBatchCompression(codec),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.AllowAutoTopicCreation(),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	var once sync.Once
	var failure error
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, found := strings.Cut(lines.Text(), "\t")
		if !found {
			return fmt.Errorf("line without a tab: %q", lines.Text())
		}
		record := &kgo.Record{Key: []byte(key), Value: []byte(value)}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failure = err })
			}
		})
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return failure
}

// member consumes in a group until it is told to stop, then commits and leaves.
func member(ctx context.Context, seed kgo.Opt, arguments []string) error {
	topic, group := arguments[0], arguments[1]
	client, err := kgo.NewClient(
		seed,
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			fmt.Fprintln(os.Stderr, "assigned", len(assigned[topic]))
		}),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	out := bufio.NewWriter(os.Stdout)
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			break
		}
		if err := printRecords(out, fetches); err != nil {
			return err
		}
		client.MarkCommitRecords(fetches.Records()...)
	}
	closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := client.CommitMarkedOffsets(closing); err != nil {
		return fmt.Errorf("last commit: %w", err)
	}
	return client.LeaveGroupContext(closing)
}

func printRecords(out *bufio.Writer, fetches kgo.Fetches) error {
	for _, failed := range fetches.Errors() {
		return fmt.Errorf("fetch of %s-%d: %w", failed.Topic, failed.Partition, failed.Err)
	}
	fetches.EachRecord(func(r *kgo.Record) {
		fmt.Fprintf(out, "%d\t%d\t%s\t%s\n", r.Partition, r.Offset, r.Key, r.Value)
	})
	return out.Flush()
}
