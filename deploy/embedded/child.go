//go:build !noembed && (linux || darwin)

package embedded

import (
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

const (
	// childVariable tells a re-executed process that it is an engine, and which.
	childVariable = "SLUICE_ENGINE_CHILD"
	// orphanLimit is how long a child may take to close its data once its parent is gone.
	orphanLimit = 5 * time.Second
	// orphanPoll is how often a child looks whether its parent is still there.
	orphanPoll = 200 * time.Millisecond
)

// childOrder is what the parent asks of a child: one of the engines.
type childOrder struct {
	Parent     int
	ClickHouse *clickhouseOrder `json:",omitempty"`
	Kafka      *kafkaOrder      `json:",omitempty"`
}

// childReady says that ClickHouseChild was called: without it a re-executed program would run itself again.
var childReady atomic.Bool

// ClickHouseChild must be called first in main and in TestMain. If this process was started as an engine (ClickHouse, or
// Kafka, which runs as a child too), it serves until its standard input closes and exits; otherwise it returns at once.
func ClickHouseChild() {
	text := os.Getenv(childVariable)
	if text == "" {
		childReady.Store(true)
		return
	}
	os.Unsetenv(childVariable)
	var o childOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, "Error: read the order of an engine child:", err)
		os.Exit(2)
	}
	go leaveWithParent(o.Parent)
	switch {
	case o.ClickHouse != nil:
		os.Exit(serveClickHouse(*o.ClickHouse))
	case o.Kafka != nil:
		os.Exit(serveKafka(*o.Kafka))
	}
}

// leaveWithParent ends this process when its parent is gone and closing the data takes too long.
func leaveWithParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(orphanPoll)
	}
	time.Sleep(orphanLimit)
	os.Exit(3)
}
