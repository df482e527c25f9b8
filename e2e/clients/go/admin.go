package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

// isrPollInterval is the time between two looks at the cluster's metadata.
const isrPollInterval = 100 * time.Millisecond

// answerTimeLimit is how long all brokers together have to say what they know.
const answerTimeLimit = 5 * time.Second

func withAdmin(seed kgo.Opt, use func(*kadm.Client) error) error {
	// Metadata as it is, not as it was some seconds ago.
	client, err := newClient(seed, kgo.MetadataMinAge(isrPollInterval))
	if err != nil {
		return err
	}
	defer client.Close()
	return use(kadm.NewClient(client))
}

func createTopic(ctx context.Context, seed kgo.Opt, arguments []string) error {
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	partitions, replicas := int32(numbers[0]), int16(numbers[1])
	return withAdmin(seed, func(admin *kadm.Client) error {
		_, err := admin.CreateTopic(ctx, partitions, replicas, nil, arguments[0])
		return err
	})
}

func describeTopic(ctx context.Context, seed kgo.Opt, arguments []string) error {
	return withAdmin(seed, func(admin *kadm.Client) error {
		topics, err := admin.ListTopics(ctx, arguments[0])
		if err != nil {
			return err
		}
		topic := topics[arguments[0]]
		if topic.Err != nil {
			return topic.Err
		}
		for _, p := range topic.Partitions.Sorted() {
			program.PrintPartition(p.Partition, p.Leader, p.Replicas, p.ISR)
		}
		return nil
	})
}

func deleteTopic(ctx context.Context, seed kgo.Opt, arguments []string) error {
	return withAdmin(seed, func(admin *kadm.Client) error {
		_, err := admin.DeleteTopic(ctx, arguments[0])
		return err
	})
}

func listTopics(ctx context.Context, seed kgo.Opt, _ []string) error {
	return withAdmin(seed, func(admin *kadm.Client) error {
		topics, err := admin.ListTopics(ctx)
		if err != nil {
			return err
		}
		for _, name := range topics.Names() {
			fmt.Println(name)
		}
		return nil
	})
}

func committed(ctx context.Context, seed kgo.Opt, arguments []string) error {
	topic, group := arguments[0], arguments[1]
	return withAdmin(seed, func(admin *kadm.Client) error {
		offsets, err := admin.FetchOffsetsForTopics(ctx, group, topic)
		if err != nil {
			return err
		}
		for _, offset := range offsets.Sorted() {
			if offset.Err != nil {
				return offset.Err
			}
			fmt.Printf("%d\t%d\n", offset.Partition, offset.At)
		}
		return nil
	})
}

// waitISR returns when every broker says that every partition of the cluster has a leader and all
// its replicas in sync. One broker is not enough to ask: one that was paused until now doesn't know
// yet what it missed.
func waitISR(ctx context.Context, seed kgo.Opt, _ []string) error {
	client, err := newClient(seed, kgo.MetadataMinAge(isrPollInterval))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		err := allInSync(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("partitions are not in sync: %w", err)
		case <-time.After(isrPollInterval):
		}
	}
}

func allInSync(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeLimit)
	defer cancel()
	brokers, err := metadata(ctx, client)
	if err != nil {
		return err
	}
	for _, broker := range brokers.Brokers {
		seen, err := metadata(ctx, client.Broker(int(broker.NodeID)))
		if err != nil {
			return fmt.Errorf("broker %d: %w", broker.NodeID, err)
		}
		if err := inSync(seen); err != nil {
			return fmt.Errorf("broker %d: %w", broker.NodeID, err)
		}
	}
	return nil
}

func metadata(ctx context.Context, asked kmsg.Requestor) (*kmsg.MetadataResponse, error) {
	return kmsg.NewPtrMetadataRequest().RequestWith(ctx, asked)
}

func inSync(seen *kmsg.MetadataResponse) error {
	for _, topic := range seen.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return err
		}
		for _, p := range topic.Partitions {
			if p.ErrorCode != 0 || p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
				return fmt.Errorf("%s-%d: leader %d, in sync %v of %v (%v)",
					*topic.Topic, p.Partition, p.Leader, p.ISR, p.Replicas, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
	return nil
}
