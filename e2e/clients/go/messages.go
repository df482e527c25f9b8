package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
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

var acks = map[string]kgo.Acks{
	"all": kgo.AllISRAcks(),
	"1":   kgo.LeaderAck(),
	"0":   kgo.NoAck(),
}

// produce sends with acks=all and idempotence, which are franz-go's defaults.
func produce(ctx context.Context, seed kgo.Opt, arguments []string) error {
	codec, known := codecs[arguments[1]]
	if !known {
		return fmt.Errorf("unknown compression %q", arguments[1])
	}
	return sendLines(ctx, seed, arguments[0], kgo.ProducerBatchCompression(codec))
}

func produceAcks(ctx context.Context, seed kgo.Opt, arguments []string) error {
	required, known := acks[arguments[1]]
	if !known {
		return fmt.Errorf("unknown acks %q", arguments[1])
	}
	return sendLines(ctx, seed, arguments[0], kgo.RequiredAcks(required), kgo.DisableIdempotentWrite())
}

// sendLines sends the lines of stdin.
func sendLines(ctx context.Context, seed kgo.Opt, topic string, options ...kgo.Opt) error {
	options = append(options,
		seed,
		kgo.DefaultProduceTopic(topic),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.AllowAutoTopicCreation(),
	)
	client, err := newClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()

	var once sync.Once
	var failure error
	err = program.ReadMessages(func(key, value []byte) error {
		record := &kgo.Record{Key: key, Value: value}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failure = err })
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return failure
}

// fetch prints messages of one partition.
func fetch(ctx context.Context, seed kgo.Opt, arguments []string) error {
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	partition, offset, count := int32(numbers[0]), int64(numbers[1]), numbers[2]
	start := map[string]map[int32]kgo.Offset{
		arguments[0]: {partition: kgo.NewOffset().At(offset)},
	}
	client, err := newClient(
		seed,
		kgo.ConsumePartitions(start),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(os.Stdout)
	for count > 0 {
		fetches := client.PollRecords(ctx, count)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := printRecords(out, fetches); err != nil {
			return err
		}
		count -= fetches.NumRecords()
	}
	return nil
}

// member consumes in a group until it is told to stop, then commits and leaves.
func member(ctx context.Context, seed kgo.Opt, arguments []string) error {
	topic, group := arguments[0], arguments[1]
	client, err := newClient(
		seed,
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			program.Assigned(len(assigned[topic]))
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
