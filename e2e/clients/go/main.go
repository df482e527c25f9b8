// Command franz talks to a Kafka cluster with franz-go for Klamm's tests.
//
// The commands that it shares with the programs of other languages are described in
// ../README.md; `load`, `impatient-load`, `read` and `wait-isr` are its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

const usage = "usage: franz BOOTSTRAP COMMAND [ARGUMENT...]"

// command runs until it has done its job or the context ends.
type command struct {
	arguments int
	run       func(ctx context.Context, seed kgo.Opt, arguments []string) error
}

var commands = map[string]command{
	"create-topic":   {3, createTopic},
	"describe-topic": {1, describeTopic},
	"delete-topic":   {1, deleteTopic},
	"list-topics":    {0, listTopics},
	"committed":      {2, committed},
	"produce":        {2, produce},
	"member":         {2, member},
	"load":           {3, patientLoad},
	"impatient-load": {3, impatientLoad},
	"read":           {1, read},
	"wait-isr":       {0, waitISR},
}

func main() {
	// The Go runtime ends the process at the second signal only if nobody asked for signals, so
	// the context is the one way out.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "franz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) < 2 {
		return fmt.Errorf("%s", usage)
	}
	bootstrap, name, rest := arguments[0], arguments[1], arguments[2:]
	command, known := commands[name]
	if !known {
		return fmt.Errorf("unknown command %q; %s", name, usage)
	}
	if len(rest) != command.arguments {
		return fmt.Errorf("%s takes %d arguments, not %d", name, command.arguments, len(rest))
	}
	return command.run(ctx, kgo.SeedBrokers(strings.Split(bootstrap, ",")...), rest)
}

func number(text string) (int, error) {
	value, err := strconv.ParseInt(text, 10, 32)
	return int(value), err
}
