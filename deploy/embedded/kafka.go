//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaCluster is the in-process Kafka.
type KafkaCluster = kfake.Cluster

// cleanEvery is how often compaction and retention run, in milliseconds; they hold up the broker while they do.
const cleanEvery = 5 * 60 * 1000

// startKafka opens the Kafka in this process with its log below the data folder. Writes reach the operating system
// before they are acknowledged, as on a real broker: they survive a killed process, not a lost machine.
func startKafka(o Options) (*kfake.Cluster, error) {
	c, err := kfake.NewCluster(
		kfake.Ports(o.KafkaPort), // one broker; 0 picks a free port
		kfake.ClusterID("sluice"),
		kfake.DataDir(filepath.Join(o.DataDir, "kafka")),
		kfake.DefaultNumPartitions(o.DefaultPartitions),
		// Auto topic creation stays off: a mistyped topic must fail.
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": strconv.Itoa(cleanEvery)}),
		kfake.WithLogger(kafkaLogger{o.Logger}),
	)
	var op *net.OpError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &op) && errors.Is(err, syscall.EADDRINUSE):
		return nil, &PortTakenError{Engine: "Kafka", Port: o.KafkaPort, Flag: FlagKafkaPort}
	default:
		return nil, &StartError{Engine: "Kafka", Err: err}
	}
}

// kafkaLogger passes on what the broker says about its disk: warnings and errors.
type kafkaLogger struct{ l *slog.Logger }

func (k kafkaLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		k.l.LogAttrs(context.Background(), slog.LevelError, "kafka: "+fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		k.l.LogAttrs(context.Background(), slog.LevelWarn, "kafka: "+fmt.Sprintf(format, args...))
	}
}
