// Command franz talks to a Kafka cluster with franz-go for Klamm's tests.
//
// The commands that it shares with the programs of other clients are described in
// ../README.md; `load`, `impatient-load`, `read`, `wait-isr`, `commit-offsets` and `check-offsets` are
// its own.
package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

type run func(ctx context.Context, seed kgo.Opt, arguments []string) error

func main() {
	program.Main("franz", map[string]program.Command{
		"version":        program.Version("github.com/twmb/franz-go"),
		"create-topic":   command(3, createTopic),
		"describe-topic": command(1, describeTopic),
		"delete-topic":   command(1, deleteTopic),
		"list-topics":    command(0, listTopics),
		"committed":      command(2, committed),
		"produce":        command(2, produce),
		"produce-acks":   command(2, produceAcks),
		"fetch":          command(4, fetch),
		"member":         command(2, member),
		"load":           command(3, patientLoad),
		"impatient-load": command(3, impatientLoad),
		"read":           command(1, read),
		"wait-isr":       command(0, waitISR),
		"commit-offsets": command(3, commitOffsets),
		"check-offsets":  command(4, checkOffsets),
	})
}

func command(arguments int, run run) program.Command {
	return program.Command{
		Arguments: arguments,
		Run: func(ctx context.Context, seeds, arguments []string) error {
			return run(ctx, kgo.SeedBrokers(seeds...), arguments)
		},
	}
}
