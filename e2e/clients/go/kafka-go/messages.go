package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

const (
	requestTimeout = 10 * time.Second
	// attempts, with the longest pause between them, bound the life of a batch to about a minute.
	attempts     = 120
	retryPause   = 500 * time.Millisecond
	batchTimeout = 5 * time.Millisecond
	// sendCount is how many messages are handed over before their acknowledgements are awaited.
	sendCount = 500
	// sendInterval is how long a message waits for others at most.
	sendInterval = 20 * time.Millisecond
	fetchWait    = 250 * time.Millisecond
	fetchBytes   = 1 << 20
)

var codecs = map[string]kafka.Compression{
	"none":   0,
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

var acks = map[string]kafka.RequiredAcks{
	"all": kafka.RequireAll,
	"1":   kafka.RequireOne,
	"0":   kafka.RequireNone,
}

func writer(seeds []string, topic string) *kafka.Writer {
	return &kafka.Writer{
		Addr:            kafka.TCP(seeds...),
		Topic:           topic,
		Balancer:        &kafka.Hash{},
		RequiredAcks:    kafka.RequireAll,
		BatchTimeout:    batchTimeout,
		MaxAttempts:     attempts,
		WriteBackoffMax: retryPause,
	}
}

func produce(ctx context.Context, seeds, arguments []string) error {
	codec, known := codecs[arguments[1]]
	if !known {
		return fmt.Errorf("unknown compression %q", arguments[1])
	}
	writer := writer(seeds, arguments[0])
	writer.Compression = codec
	return send(ctx, writer)
}

func produceAcks(ctx context.Context, seeds, arguments []string) error {
	required, known := acks[arguments[1]]
	if !known {
		return fmt.Errorf("unknown acks %q", arguments[1])
	}
	writer := writer(seeds, arguments[0])
	writer.RequiredAcks = required
	return send(ctx, writer)
}

func send(ctx context.Context, writer *kafka.Writer) error {
	var pending []kafka.Message
	last := time.Now()
	flush := func() error {
		err := writer.WriteMessages(ctx, pending...)
		pending, last = pending[:0], time.Now()
		return err
	}
	err := program.ReadMessages(func(key, value []byte) error {
		pending = append(pending, kafka.Message{Key: key, Value: value})
		if len(pending) < sendCount && time.Since(last) < sendInterval {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return errors.Join(err, writer.Close())
}

func reader(seeds []string, topic string, partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers:               seeds,
		Topic:                 topic,
		Partition:             partition,
		MaxBytes:              fetchBytes,
		MaxWait:               fetchWait,
		OffsetOutOfRangeError: true,
	})
}

// fetch prints messages of one partition.
func fetch(ctx context.Context, seeds, arguments []string) error {
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	partition, offset, count := numbers[0], int64(numbers[1]), numbers[2]
	reader := reader(seeds, arguments[0], partition)
	defer reader.Close()
	if err := reader.SetOffset(offset); err != nil {
		return err
	}
	printer := program.NewPrinter()
	for count > 0 {
		m, err := reader.ReadMessage(ctx)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			err = reader.SetOffset(kafka.FirstOffset)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if err := printer.Print(m.Partition, m.Offset, m.Key, m.Value); err != nil {
			return err
		}
		count--
	}
	return nil
}

// member consumes in a group until it is told to stop, and commits when a generation ends.
func member(ctx context.Context, seeds, arguments []string) error {
	topic, name := arguments[0], arguments[1]
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:          name,
		Brokers:     seeds,
		Topics:      []string{topic},
		StartOffset: kafka.FirstOffset,
	})
	if err != nil {
		return err
	}
	printer := program.NewPrinter()
	failures := make(chan error, 1)
	for {
		generation, err := group.Next(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			// Next tries again when it is asked again.
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		partitions := generation.Assignments[topic]
		program.Assigned(len(partitions))
		for _, assigned := range partitions {
			generation.Start(func(generationCtx context.Context) {
				reader := reader(seeds, topic, assigned.ID)
				defer reader.Close()
				next, err := printAll(generationCtx, reader, assigned.Offset, printer)
				if next != assigned.Offset {
					err = errors.Join(err, commit(generation, topic, assigned.ID, next))
				}
				if err != nil {
					select {
					case failures <- err:
					default:
					}
				}
			})
		}
	}
	closeErr := group.Close()
	select {
	case err := <-failures:
		return err
	default:
		return closeErr
	}
}

// printAll prints what there is until the generation ends, and returns the offset to go on at.
func printAll(ctx context.Context, reader *kafka.Reader, next int64, printer *program.Printer) (int64, error) {
	if err := reader.SetOffset(next); err != nil {
		return next, err
	}
	for {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = nil
			}
			return next, err
		}
		if err := printer.Print(m.Partition, m.Offset, m.Key, m.Value); err != nil {
			return next, err
		}
		next = m.Offset + 1
	}
}

func commit(generation *kafka.Generation, topic string, partition int, offset int64) error {
	return generation.CommitOffsets(map[string]map[int]int64{topic: {partition: offset}})
}
