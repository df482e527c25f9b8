package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// isrPollInterval is the time between two looks at the cluster's metadata.
const isrPollInterval = 100 * time.Millisecond

func withAdmin(seed kgo.Opt, use func(*kadm.Client) error) error {
	// Metadata as it is, not as it was some seconds ago.
	client, err := kgo.NewClient(seed, kgo.MetadataMinAge(isrPollInterval))
	if err != nil {
		return err
	}
	defer client.Close()
	return use(kadm.NewClient(client))
}

func createTopic(ctx context.Context, seed kgo.Opt, arguments []string) error {
	partitions, err := number(arguments[1])
	if err != nil {
		return err
	}
	replicas, err := number(arguments[2])
	if err != nil {
		return err
	}
	return withAdmin(seed, func(admin *kadm.Client) error {
		_, err := admin.CreateTopic(ctx, int32(partitions), int16(replicas), nil, arguments[0])
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
			fmt.Printf("%d\t%d\t%s\t%s\n", p.Partition, p.Leader, list(p.Replicas), list(p.ISR))
		}
		return nil
	})
}

func list(brokers []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(brokers), " ", ","), "[]")
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

// waitISR returns when every partition of the cluster has a leader and all its replicas in sync.
func waitISR(ctx context.Context, seed kgo.Opt, _ []string) error {
	return withAdmin(seed, func(admin *kadm.Client) error {
		for {
			topics, err := admin.ListTopicsWithInternal(ctx)
			if err == nil && inSync(topics) {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("partitions are not in sync, last answer: %v", err)
			case <-time.After(isrPollInterval):
			}
		}
	})
}

func inSync(topics kadm.TopicDetails) bool {
	for _, topic := range topics {
		if topic.Err != nil {
			return false
		}
		for _, p := range topic.Partitions {
			if p.Err != nil || p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
				return false
			}
		}
	}
	return true
}
