// Package program is what the client programs share: commands, signals and messages. The commands
// are described in ../../README.md.
package program

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// lineBytesMax bounds a line of stdin.
const lineBytesMax = 1 << 20

// Command runs until it has done its job or the context, which ends with SIGTERM, is over.
type Command struct {
	Arguments int
	Run       func(ctx context.Context, seeds []string, arguments []string) error
}

// Main runs the command that the arguments of the process name.
func Main(name string, commands map[string]Command) {
	// The Go runtime ends the process at the second signal only if nobody asked for signals, so
	// the context is the one way out.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, name, commands, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program string, commands map[string]Command, arguments []string) error {
	usage := fmt.Sprintf("usage: %s BOOTSTRAP COMMAND [ARGUMENT...]", program)
	if len(arguments) < 2 {
		return fmt.Errorf("%s", usage)
	}
	bootstrap, name, rest := arguments[0], arguments[1], arguments[2:]
	command, known := commands[name]
	if !known {
		return fmt.Errorf("unknown command %q; %s", name, usage)
	}
	if len(rest) != command.Arguments {
		return fmt.Errorf("%s takes %d arguments, not %d", name, command.Arguments, len(rest))
	}
	return command.Run(ctx, strings.Split(bootstrap, ","), rest)
}

// Version is the command that prints the version of a module which the program was built with.
func Version(module string) Command {
	return Command{0, func(context.Context, []string, []string) error {
		build, ok := debug.ReadBuildInfo()
		if !ok {
			return fmt.Errorf("the program does not know what it was built of")
		}
		for _, dependency := range build.Deps {
			if dependency.Path == module {
				fmt.Println(strings.TrimPrefix(dependency.Version, "v"))
				return nil
			}
		}
		return fmt.Errorf("the program was built without %s", module)
	}}
}

// Number reads an argument.
func Number(text string) (int, error) {
	value, err := strconv.ParseInt(text, 10, 32)
	return int(value), err
}

// Numbers reads arguments.
func Numbers(texts ...string) ([]int, error) {
	var values []int
	for _, text := range texts {
		value, err := Number(text)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

// ReadMessages hands over the key and the value of each line of stdin.
func ReadMessages(take func(key, value []byte) error) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		key, value, found := strings.Cut(lines.Text(), "\t")
		if !found {
			return fmt.Errorf("line without a tab: %q", lines.Text())
		}
		if err := take([]byte(key), []byte(value)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Printer prints messages from several goroutines.
type Printer struct {
	mutex sync.Mutex
	out   *bufio.Writer
}

// NewPrinter prints to stdout.
func NewPrinter() *Printer {
	return &Printer{out: bufio.NewWriter(os.Stdout)}
}

// Print prints a message at once.
func (p *Printer) Print(partition int, offset int64, key, value []byte) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	fmt.Fprintf(p.out, "%d\t%d\t%s\t%s\n", partition, offset, key, value)
	return p.out.Flush()
}

// PrintPartition prints a partition as describe-topic does.
func PrintPartition[Broker int | int32](partition, leader Broker, replicas, isr []Broker) {
	fmt.Printf("%d\t%d\t%s\t%s\n", partition, leader, List(replicas), List(isr))
}

// List prints brokers with commas between.
func List[Broker int | int32](brokers []Broker) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(brokers), " ", ","), "[]")
}

// Assigned says how many partitions a member has.
func Assigned(count int) {
	fmt.Fprintln(os.Stderr, "assigned", count)
}
