package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

// errDiffers is what no repetition mends: a group has committed something else.
var errDiffers = errors.New("committed offsets differ")

// commitOffsets has groups commit the offsets 1, 2, ... up to the last one for every partition of a topic.
func commitOffsets(ctx context.Context, seed kgo.Opt, arguments []string) error {
	topic := arguments[0]
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	groups, last := numbers[0], numbers[1]
	return withAdmin(seed, func(admin *kadm.Client) error {
		topics, err := admin.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		for at := 1; at <= last; at++ {
			var offsets kadm.Offsets
			topics.EachPartition(func(p kadm.PartitionDetail) {
				offsets.AddOffset(topic, p.Partition, int64(at), -1)
			})
			for group := range groups {
				if err := admin.CommitAllOffsets(ctx, groupName(topic, group), offsets); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// checkOffsets waits until the coordinators of the groups answer, and compares.
func checkOffsets(ctx context.Context, seed kgo.Opt, arguments []string) error {
	topic := arguments[0]
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	groups, partitions, expected := numbers[0], numbers[1], int64(numbers[2])
	return withAdmin(seed, func(admin *kadm.Client) error {
		for group := range groups {
			name := groupName(topic, group)
			err := checkGroup(ctx, admin, name, partitions, expected)
			for err != nil && !errors.Is(err, errDiffers) {
				select {
				case <-ctx.Done():
					return err
				case <-time.After(isrPollInterval):
				}
				err = checkGroup(ctx, admin, name, partitions, expected)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func checkGroup(ctx context.Context, admin *kadm.Client, group string, partitions int, expected int64) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeLimit)
	defer cancel()
	offsets, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	if err := offsets.Error(); err != nil {
		return err
	}
	for _, offset := range offsets.Sorted() {
		if offset.At != expected {
			return fmt.Errorf("%w: %s has %d of %s-%d instead of %d",
				errDiffers, group, offset.At, offset.Topic, offset.Partition, expected)
		}
	}
	if known := len(offsets.Sorted()); known != partitions {
		return fmt.Errorf("%w: %s has %d instead of %d", errDiffers, group, known, partitions)
	}
	return nil
}

func groupName(topic string, number int) string {
	return fmt.Sprintf("%s-%d", topic, number)
}
