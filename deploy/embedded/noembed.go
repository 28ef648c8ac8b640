//go:build noembed || !(linux || darwin)

package embedded

import "context"

// KafkaCluster stands for the in-process Kafka, which this build leaves out.
type KafkaCluster struct{}

type running struct{}

// Start answers with NotEmbeddedError when o asks for any engine.
func Start(_ context.Context, o Options) (*Engines, error) {
	if o.Kafka || o.Postgres || o.ClickHouse {
		return nil, &NotEmbeddedError{}
	}
	return &Engines{}, nil
}

// Stop does nothing in this build.
func (e *Engines) Stop(context.Context) error { return nil }

// KillClickHouse does nothing but say so in this build.
func (e *Engines) KillClickHouse() error { return &NotEmbeddedError{} }

// RestartClickHouse does nothing but say so in this build.
func (e *Engines) RestartClickHouse(context.Context) error { return &NotEmbeddedError{} }

// KillPostgres does nothing but say so in this build.
func (e *Engines) KillPostgres() error { return &NotEmbeddedError{} }

// RestartPostgres does nothing but say so in this build.
func (e *Engines) RestartPostgres(context.Context) error { return &NotEmbeddedError{} }

// ClickHouseChild does nothing in this build: no child is ever started.
func ClickHouseChild() {}

// InUse is always false in this build: nothing holds a data folder.
func InUse(string) bool { return false }

// What both builds declare and only the other one uses.
var _ = []any{Options.checked, Engines{}.running, Options{}.chosen, stopContext}
