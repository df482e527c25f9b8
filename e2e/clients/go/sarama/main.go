// Command sarama talks to a Kafka cluster with Sarama for Klamm's tests; commands: ../../README.md.
package main

import (
	"time"

	"github.com/IBM/sarama"

	"github.com/klamm-dev/klamm/e2e/clients/go/program"
)

const (
	// retries, with the pause between them, bound the life of a message to about a minute.
	retries      = 240
	retryBackoff = 250 * time.Millisecond
)

func main() {
	program.Main("sarama", map[string]program.Command{
		"version":        program.Version("github.com/IBM/sarama"),
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

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.ClientID = "sarama"
	config.Metadata.Retry.Max = retries
	config.Producer.Retry.Max = retries
	config.Producer.Retry.Backoff = retryBackoff
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return config
}
