package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/segmentio/kafka-go"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

func createTopic(ctx context.Context, seeds, arguments []string) error {
	topic := arguments[0]
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	response, err := client(seeds).CreateTopics(ctx, &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{
			Topic:             topic,
			NumPartitions:     numbers[0],
			ReplicationFactor: numbers[1],
		}},
	})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func describeTopic(ctx context.Context, seeds, arguments []string) error {
	topics, err := metadata(ctx, seeds, arguments)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if topic.Error != nil {
			return topic.Error
		}
		slices.SortFunc(topic.Partitions, func(a, b kafka.Partition) int { return a.ID - b.ID })
		for _, p := range topic.Partitions {
			program.PrintPartition(p.ID, p.Leader.ID, ids(p.Replicas), ids(p.Isr))
		}
	}
	return nil
}

// metadata is of all topics if none is named.
func metadata(ctx context.Context, seeds, topics []string) ([]kafka.Topic, error) {
	response, err := client(seeds).Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, err
	}
	return response.Topics, nil
}

func ids(brokers []kafka.Broker) []int {
	var ids []int
	for _, broker := range brokers {
		ids = append(ids, broker.ID)
	}
	return ids
}

func deleteTopic(ctx context.Context, seeds, arguments []string) error {
	response, err := client(seeds).DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: arguments})
	if err != nil {
		return err
	}
	return response.Errors[arguments[0]]
}

func listTopics(ctx context.Context, seeds, _ []string) error {
	topics, err := metadata(ctx, seeds, nil)
	for _, topic := range topics {
		fmt.Println(topic.Name)
	}
	return err
}

func committed(ctx context.Context, seeds, arguments []string) error {
	topic, group := arguments[0], arguments[1]
	topics, err := metadata(ctx, seeds, []string{topic})
	if err != nil {
		return err
	}
	var partitions []int
	for _, p := range topics[0].Partitions {
		partitions = append(partitions, p.ID)
	}
	offsets, err := client(seeds).OffsetFetch(ctx, &kafka.OffsetFetchRequest{
		GroupID: group,
		Topics:  map[string][]int{topic: partitions},
	})
	if err != nil {
		return err
	}
	if offsets.Error != nil {
		return offsets.Error
	}
	for _, p := range offsets.Topics[topic] {
		if p.Error != nil {
			return p.Error
		}
		fmt.Printf("%d\t%d\n", p.Partition, p.CommittedOffset)
	}
	return nil
}
