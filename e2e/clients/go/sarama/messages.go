package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

var acks = map[string]sarama.RequiredAcks{
	"all": sarama.WaitForAll,
	"1":   sarama.WaitForLocal,
	"0":   sarama.NoResponse,
}

func produce(_ context.Context, seeds, arguments []string) error {
	codec, known := codecs[arguments[1]]
	if !known {
		return fmt.Errorf("unknown compression %q", arguments[1])
	}
	config := config()
	config.Producer.Compression = codec
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	// Sarama has no idempotence with more.
	config.Net.MaxOpenRequests = 1
	return send(seeds, config, arguments[0])
}

func produceAcks(_ context.Context, seeds, arguments []string) error {
	required, known := acks[arguments[1]]
	if !known {
		return fmt.Errorf("unknown acks %q", arguments[1])
	}
	config := config()
	config.Producer.RequiredAcks = required
	config.Net.MaxOpenRequests = 1
	return send(seeds, config, arguments[0])
}

func send(seeds []string, config *sarama.Config, topic string) error {
	producer, err := sarama.NewAsyncProducer(seeds, config)
	if err != nil {
		return err
	}
	var unanswered sync.WaitGroup
	failed := make(chan error)
	go func() {
		var first error
		for failure := range producer.Errors() {
			if first == nil {
				first = failure
			}
			unanswered.Done()
		}
		failed <- first
	}()
	go func() {
		for range producer.Successes() {
			unanswered.Done()
		}
	}()
	readErr := program.ReadMessages(func(key, value []byte) error {
		unanswered.Add(1)
		producer.Input() <- &sarama.ProducerMessage{
			Topic: topic,
			Key:   sarama.ByteEncoder(key),
			Value: sarama.ByteEncoder(value),
		}
		return nil
	})
	// A producer that is closed gives up what it was about to send again.
	unanswered.Wait()
	producer.AsyncClose()
	return errors.Join(readErr, <-failed)
}

// fetch prints messages of one partition.
func fetch(ctx context.Context, seeds, arguments []string) error {
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	partition, offset, count := int32(numbers[0]), int64(numbers[1]), numbers[2]
	consumer, err := sarama.NewConsumer(seeds, config())
	if err != nil {
		return err
	}
	defer consumer.Close()
	messages, err := consumer.ConsumePartition(arguments[0], partition, offset)
	if errors.Is(err, sarama.ErrOffsetOutOfRange) {
		messages, err = consumer.ConsumePartition(arguments[0], partition, sarama.OffsetOldest)
	}
	if err != nil {
		return err
	}
	defer messages.AsyncClose()
	printer := program.NewPrinter()
	for ; count > 0; count-- {
		select {
		case m := <-messages.Messages():
			if err := printer.Print(int(m.Partition), m.Offset, m.Key, m.Value); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// member consumes in a group until it is told to stop; Sarama commits what is marked at the end of
// each session.
func member(ctx context.Context, seeds, arguments []string) error {
	topic, name := arguments[0], arguments[1]
	group, err := sarama.NewConsumerGroup(seeds, name, config())
	if err != nil {
		return err
	}
	handler := &handler{topic: topic, printer: program.NewPrinter()}
	for ctx.Err() == nil {
		err := group.Consume(ctx, []string{topic}, handler)
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return group.Close()
}

type handler struct {
	topic   string
	printer *program.Printer
}

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	program.Assigned(len(session.Claims()[h.topic]))
	return nil
}

func (*handler) Cleanup(sarama.ConsumerGroupSession) error {
	return nil
}

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, open := <-claim.Messages():
			if !open {
				return nil
			}
			if err := h.printer.Print(int(m.Partition), m.Offset, m.Key, m.Value); err != nil {
				return err
			}
			session.MarkMessage(m, "")
		case <-session.Context().Done():
			return nil
		}
	}
}
