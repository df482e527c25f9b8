// Command kafka-go talks to a Kafka cluster with kafka-go for Klamm's tests; commands:
// ../../README.md.
package main

import (
	"github.com/segmentio/kafka-go"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

func main() {
	program.Main("kafka-go", map[string]program.Command{
		"version":        program.Version("github.com/segmentio/kafka-go"),
		"create-topic":   {Arguments: 3, Run: createTopic},
		"describe-topic": {Arguments: 1, Run: describeTopic},
		"delete-topic":   {Arguments: 1, Run: deleteTopic},
		"list-topics":    {Arguments: 0, Run: listTopics},
		"committed":      {Arguments: 2, Run: committed},
		"produce":        {Arguments: 2, Run: produce},
		"produce-acks":   {Arguments: 2, Run: produceAcks},
		"fetch":          {Arguments: 4, Run: fetch},
		"member":         {Arguments: 2, Run: member},
	})
}

func client(seeds []string) *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(seeds...), Timeout: requestTimeout}
}
