package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/IBM/sarama"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

func withAdmin(seeds []string, use func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin(seeds, config())
	if err != nil {
		return err
	}
	defer admin.Close()
	return use(admin)
}

func createTopic(_ context.Context, seeds, arguments []string) error {
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	detail := &sarama.TopicDetail{
		NumPartitions:     int32(numbers[0]),
		ReplicationFactor: int16(numbers[1]),
	}
	return withAdmin(seeds, func(admin sarama.ClusterAdmin) error {
		return admin.CreateTopic(arguments[0], detail, false)
	})
}

func describeTopic(_ context.Context, seeds, arguments []string) error {
	return withAdmin(seeds, func(admin sarama.ClusterAdmin) error {
		topics, err := admin.DescribeTopics(arguments)
		if err != nil {
			return err
		}
		for _, topic := range topics {
			if topic.Err != sarama.ErrNoError {
				return topic.Err
			}
			slices.SortFunc(topic.Partitions, func(a, b *sarama.PartitionMetadata) int {
				return int(a.ID - b.ID)
			})
			for _, p := range topic.Partitions {
				program.PrintPartition(p.ID, p.Leader, p.Replicas, p.Isr)
			}
		}
		return nil
	})
}

func deleteTopic(_ context.Context, seeds, arguments []string) error {
	return withAdmin(seeds, func(admin sarama.ClusterAdmin) error {
		return admin.DeleteTopic(arguments[0])
	})
}

func listTopics(_ context.Context, seeds, _ []string) error {
	return withAdmin(seeds, func(admin sarama.ClusterAdmin) error {
		topics, err := admin.ListTopics()
		for name := range topics {
			fmt.Println(name)
		}
		return err
	})
}

func committed(_ context.Context, seeds, arguments []string) error {
	topic, group := arguments[0], arguments[1]
	return withAdmin(seeds, func(admin sarama.ClusterAdmin) error {
		// Everything that the group has committed.
		offsets, err := admin.ListConsumerGroupOffsets(group, nil)
		if err != nil {
			return err
		}
		if offsets.Err != sarama.ErrNoError {
			return offsets.Err
		}
		for partition, offset := range offsets.Blocks[topic] {
			if offset.Err != sarama.ErrNoError {
				return offset.Err
			}
			fmt.Printf("%d\t%d\n", partition, offset.Offset)
		}
		return nil
	})
}
