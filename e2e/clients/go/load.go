package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

const (
	// loadTick is how often a part of the second's messages is sent.
	loadTick = 10 * time.Millisecond
	// loadBuffer is more than what piles up while one partition has no leader for a minute.
	loadBuffer = 1 << 18
)

// patient is a client for machines that are busy.
func patient() []kgo.Opt {
	const (
		// For the broker to replicate a request, and once more for its answer: a broker that does not
		// answer must not hide from the client that another one leads.
		requestTimeout = 250 * time.Millisecond
		retryBackoff   = 100 * time.Millisecond
	)
	return []kgo.Opt{
		kgo.MetadataMinAge(retryBackoff),
		kgo.ProduceRequestTimeout(requestTimeout),
		kgo.RequestTimeoutOverhead(requestTimeout),
		kgo.RetryBackoffFn(func(int) time.Duration { return retryBackoff }),
	}
}

// impatient is a client that finds out within a fraction of a second what becomes of a partition: with
// it, the cluster's patience is measured and not its own.
func impatient() []kgo.Opt {
	const (
		requestTimeout = 100 * time.Millisecond
		retryBackoff   = 50 * time.Millisecond
	)
	// The client asks a broker that accepts connections and does not answer a dozen times for its
	// versions, and its requests for metadata wait in that queue: so it does not ask.
	versions := kversion.V3_0_0()
	versions.SetMaxKeyVersion(kmsg.ApiVersions.Int16(), -1)
	return []kgo.Opt{
		kgo.MaxVersions(versions),
		kgo.MaxProduceRequestsInflightPerBroker(1),
		kgo.MetadataMinAge(retryBackoff),
		kgo.ProduceRequestTimeout(requestTimeout),
		kgo.RequestTimeoutOverhead(requestTimeout),
		kgo.RetryBackoffFn(func(int) time.Duration { return retryBackoff }),
	}
}

func patientLoad(ctx context.Context, seed kgo.Opt, arguments []string) error {
	return load(ctx, append(patient(), seed), arguments)
}

func impatientLoad(ctx context.Context, seed kgo.Opt, arguments []string) error {
	return load(ctx, append(impatient(), seed), arguments)
}

// load produces to every partition of a topic at a steady rate until it is told to stop, then
// waits for the last acknowledgements. Each message's value is its partition and its number in
// that partition. It prints one line for each:
//
//	acked PARTITION OFFSET NUMBER UNIX-MICROSECONDS
//	failed PARTITION NUMBER ERROR
func load(ctx context.Context, options []kgo.Opt, arguments []string) error {
	topic := arguments[0]
	numbers, err := program.Numbers(arguments[1:]...)
	if err != nil {
		return err
	}
	partitions, perSecond := numbers[0], numbers[1]
	client, err := newClient(append(options,
		kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		kgo.MaxBufferedRecords(loadBuffer),
	)...)
	if err != nil {
		return err
	}
	defer client.Close()

	results := newResults()
	if err := send(ctx, client, partitions, perSecond, results); err != nil {
		return err
	}
	closing, cancel := context.WithTimeout(context.Background(), 2*deliveryTimeout)
	defer cancel()
	if err := client.Flush(closing); err != nil {
		return fmt.Errorf("last acknowledgements: %w", err)
	}
	return results.flush()
}

// send makes up for late ticks: the number of messages follows the clock.
func send(ctx context.Context, client *kgo.Client, partitions, perSecond int, results *results) error {
	start := time.Now()
	tick := time.NewTicker(loadTick)
	defer tick.Stop()
	for sent := 0; ; {
		due := int(time.Since(start).Seconds() * float64(perSecond))
		for ; sent < due; sent++ {
			partition, message := sent%partitions, sent/partitions
			record := &kgo.Record{
				Partition: int32(partition),
				Value:     fmt.Appendf(nil, "%d %d", partition, message),
			}
			// Not the context of the signal: what was sent is waited for.
			client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
				results.add(r, message, err)
			})
		}
		if err := results.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// results writes what became of each message, from the client's goroutines.
type results struct {
	mutex sync.Mutex
	out   *bufio.Writer
}

func newResults() *results {
	return &results{out: bufio.NewWriterSize(os.Stdout, 1<<16)}
}

func (r *results) add(record *kgo.Record, message int, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if err != nil {
		fmt.Fprintf(r.out, "failed %d %d %v\n", record.Partition, message, err)
		return
	}
	now := time.Now().UnixMicro()
	fmt.Fprintf(r.out, "acked %d %d %d %d\n", record.Partition, record.Offset, message, now)
}

func (r *results) flush() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.out.Flush()
}

// read prints a whole topic, up to the end offsets at the time of the call, without a group.
func read(ctx context.Context, seed kgo.Opt, arguments []string) error {
	topic := arguments[0]
	var ends kadm.ListedOffsets
	err := withAdmin(seed, func(admin *kadm.Client) (err error) {
		ends, err = admin.ListEndOffsets(ctx, topic)
		return err
	})
	if err != nil {
		return err
	}
	if err := ends.Error(); err != nil {
		return err
	}
	left := int64(0)
	ends.Each(func(end kadm.ListedOffset) { left += end.Offset })

	client, err := newClient(
		seed,
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(os.Stdout)
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("stopped with %d messages left to read", left)
		}
		if err := printRecords(out, fetches); err != nil {
			return err
		}
		left -= int64(fetches.NumRecords())
	}
	return nil
}
