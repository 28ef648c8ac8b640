//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// serveKafka runs the Kafka of this process until standard input closes.
//
// Why a process of its own: the broker commits a transaction by one write per partition and one per offset, and has no
// transaction log to finish from, so that kill -9 between two of these would leave half a transaction. Killing the parent
// does not interrupt the child, which then aborts what is open and leaves between two requests.
func serveKafka(o kafkaOrder) int {
	c, err := openKafka(o, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 1
	}
	fmt.Fprintln(os.Stderr, kafkaListens)
	word, _ := io.ReadAll(io.LimitReader(os.Stdin, int64(len(stopWord))))
	if strings.HasPrefix(string(word), stopWord) {
		closeKafka(c, o)
		return 0
	}
	inOrder := true
	if err := abortOpen(c); err != nil {
		fmt.Fprintln(os.Stderr, "Error: abort open transactions:", err)
		inOrder = false
	}
	leaveBetweenRequests(c, o, inOrder)
	return 3
}

// kafkaListens is what the child says once the port is its own.
const kafkaListens = "Kafka listens"

// leaveBetweenRequests ends this process while the broker handles nothing: it handles one request at a time and shows
// each to the control function first. A clean close would keep the sessions of the clients that died with the parent, and
// everybody would wait for them to expire.
func leaveBetweenRequests(c *kfake.Cluster, o kafkaOrder, inOrder bool) {
	c.ControlKey(int16(kmsg.ApiVersions), func(kmsg.Request) (kmsg.Response, error, bool) { //nolint:staticcheck // the library's signature
		if inOrder {
			_ = os.Remove(o.openMark())
		}
		os.Exit(0)
		return nil, nil, true
	})
	for { // until the control function ends this, or leaveWithParent does
		client, err := kgo.NewClient(kgo.SeedBrokers(kafkaAddress(c)))
		if err != nil {
			return
		}
		_ = client.Ping(context.Background()) // a new connection asks for ApiVersions first
		client.Close()
	}
}
