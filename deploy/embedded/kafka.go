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
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// KafkaCluster is the Kafka in this process, for fault injection.
type KafkaCluster = kfake.Cluster

// cleanEvery is how often compaction and retention run, in milliseconds; they hold up the broker while they do.
const cleanEvery = 5 * 60 * 1000

// kafkaOrder is what a Kafka needs to know.
type kafkaOrder struct {
	Dir        string
	Port       int
	Partitions int // of a topic that does not say
}

func newKafkaOrder(o Options) kafkaOrder {
	return kafkaOrder{Dir: filepath.Join(o.DataDir, "kafka"), Port: o.KafkaPort, Partitions: o.DefaultPartitions}
}

// openKafka opens the Kafka in this process with its log below the data folder. Writes reach the operating system
// before they are acknowledged, as on a real broker: they survive a killed process, not a lost machine.
func openKafka(o kafkaOrder, log *slog.Logger) (*kfake.Cluster, error) {
	inOrder, err := markOpen(o)
	if err != nil {
		return nil, err
	}
	accept := make(chan struct{})
	c, err := kfake.NewCluster(
		kfake.ListenFn(func(network, address string) (net.Listener, error) { return listenLater(network, address, accept) }),
		kfake.Ports(o.Port), // one broker; 0 picks a free port
		kfake.ClusterID("sluice"),
		kfake.DataDir(o.Dir),
		kfake.DefaultNumPartitions(o.Partitions),
		// Auto topic creation stays off: a mistyped topic must fail.
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": strconv.Itoa(cleanEvery)}),
		kfake.WithLogger(kafkaLogger{log}),
	)
	if err != nil || inOrder {
		close(accept)
	}
	var op *net.OpError
	switch {
	case err == nil:
	case errors.As(err, &op) && errors.Is(err, syscall.EADDRINUSE):
		return nil, &PortTakenError{Engine: "Kafka", Port: o.Port, Flag: FlagKafkaPort}
	default:
		return nil, &StartError{Engine: "Kafka", Err: err}
	}
	if inOrder {
		return c, nil
	}
	if err := abortForgotten(c, func() { close(accept) }); err != nil {
		c.Close()
		return nil, &StartError{Engine: "Kafka", Err: fmt.Errorf("recover transactions: %w", err)}
	}
	return c, nil
}

// laterListener accepts nobody until it is told to.
type laterListener struct {
	net.Listener
	accept <-chan struct{}
}

func listenLater(network, address string, accept <-chan struct{}) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return laterListener{l, accept}, nil
}

func (l laterListener) Accept() (net.Conn, error) {
	<-l.accept
	return l.Listener.Accept()
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

// kafkaChild is the Kafka in a child process and what is needed to start it again.
type kafkaChild struct {
	servant
	order kafkaOrder
}

// newKafkaChild lays out the data folder.
func newKafkaChild(o Options) (*kafkaChild, error) {
	log, err := openLog(filepath.Join(o.DataDir, "kafka.log"))
	if err != nil {
		return nil, err
	}
	return &kafkaChild{
		servant: servant{engine: "Kafka", lockPath: kafkaLock(o), log: log},
		order:   newKafkaOrder(o),
	}, nil
}

// kafkaLock is the lock that the child holds.
func kafkaLock(o Options) string { return filepath.Join(o.DataDir, "kafka.lock") }

// start runs the child and waits until it answers.
func (k *kafkaChild) start(ctx context.Context) error {
	return k.launch(ctx, childOrder{Kafka: &k.order}, filepath.Dir(k.order.Dir), k.answers)
}

// answers asks for something that a recovering broker refuses.
func (k *kafkaChild) answers(ctx context.Context) bool {
	if !k.log.mentions(kafkaListens) {
		return false // what answers on the port may be another program's
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(loopback(k.order.Port)), kgo.RequestRetries(0))
	if err != nil {
		return false
	}
	defer client.Close()
	_, err = kmsg.NewPtrListGroupsRequest().RequestWith(ctx, client)
	return err == nil
}
