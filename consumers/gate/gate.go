// Package gate decides each event once: it consumes payments, loans and behaviours, and writes the verdicts, the aggregates
// they changed, the dead letters and the consumed offsets in one Kafka transaction per poll. What a verdict is, is said in
// package risk; the gate moves no money and keeps nothing outside Kafka.
package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/pipelines/risk"
	"sluice/rules/lists"
	"sluice/schemas"
	"sluice/schemas/events"
)

// Limits and timeouts.
const (
	// maxRecords bounds one transaction, in input records: what an abort throws away, and how long a rebalance waits.
	maxRecords = 2000
	// maxBuffered bounds the records the producer holds, above what one transaction can make (a decision, the shadows'
	// verdicts and a dozen entities for each input record), so that producing never blocks before the flush.
	maxBuffered = (16 + MaxShadows) * maxRecords
	// gather is how long the producer holds records back for a fuller batch. The flush at the end of each transaction cuts
	// it short: nothing ever waits this long.
	gather = time.Second
	// transactionTimeout is shorter than the house's: the broker has aborted a dead gate's transaction by the time its
	// session ends and its partitions go to another gate, so the takeover waits for one of them only.
	transactionTimeout = stream.SessionTimeout
	// idleWait bounds one wait for records: how old the lag figures may be on a quiet stream.
	idleWait = time.Second
	// grace is how long a gate that is told to stop may take to finish the transaction in hand.
	grace = 3 * time.Second
	// leaveWait bounds leaving the group and aborting what a failed transaction left open.
	leaveWait = 1500 * time.Millisecond
)

const part = "gate"

// DefaultRuleset is the key on the control topic "rules" of the ruleset that decides.
const DefaultRuleset = "default"

// Config is what a gate needs to know.
type Config struct {
	stream.Config

	// Instance names this gate among the gates on the same brokers. A gate that was killed and starts again under the same
	// name takes over its own open transaction at once, instead of when it times out. Two gates of one name fence
	// each other. Empty: a random name.
	Instance string

	RulesetName string // key on the control topic; empty: DefaultRuleset
	Ruleset     []byte // YAML; decides while the control topic holds no ruleset of that name

	// OnDecision is called for each decision after its transaction has committed; it may be nil and must be quick. The
	// decision must not be kept or changed after it returns.
	OnDecision func(*events.Decision)
	// Ready is called each time the gate owns its partitions and their aggregates are restored; it may be nil.
	Ready func()

	hooks hooks
}

// hooks let a test reach into a gate.
type hooks struct {
	client    []kgo.Opt             // more options for every client of the gate
	beforeEnd func(context.Context) // everything is produced, nothing committed
}

type gate struct {
	Config
	metrics    *metrics
	admin      *kgo.Client
	session    *kgo.GroupTransactSession
	inbox      *inbox
	yield      yield
	follower   *follower
	ruling     ruling
	lists      listing
	state      *risk.State
	partitions int32             // of each input topic
	inputs     map[string]string // input topic as the brokers know it → without prefix
	owned      map[int32]bool    // partitions of the group's last assignment; true once restored
	at         positions         // next offset to apply of every record feed; see positions
	tx         transaction       // the one in hand; reused
	lag        lagMeter
	channels   channelMeter
	headers    []events.Header      // scratch
	router     kgo.TopicPartitioner // finds the partition a key belongs in
}

// Run decides events until ctx ends, then finishes the transaction in hand, leaves the group and returns nil. After an
// error, nothing in memory counts: the next Run starts from what Kafka has committed (see stream.Config.Supervise).
// The topics must exist (see stream.Config.EnsureTopics).
func Run(ctx context.Context, c Config) error {
	c.Config = c.Fill()
	if c.RulesetName == "" {
		c.RulesetName = DefaultRuleset
	}
	if c.Instance == "" {
		c.Instance = rand.Text()
	}
	g := &gate{
		Config: c, metrics: newMetrics(c.Metrics), inbox: newInbox(), owned: map[int32]bool{}, at: positions{},
		inputs: map[string]string{}, lag: lagMeter{},
		ruling: ruling{shadows: map[string]shadow{}}, lists: listing{set: lists.NewSet(), told: map[string]bool{}},
		router: kgo.StickyKeyPartitioner(nil).ForTopic(""),
	}
	for _, topic := range []string{schemas.Payments, schemas.Loans, schemas.Behaviors} {
		g.inputs[c.Topic(topic)] = topic
	}
	defer g.close()
	err := g.start(ctx)
	if err == nil {
		err = g.loop(ctx)
	}
	if ctx.Err() != nil {
		if err != nil && !errors.Is(err, context.Canceled) {
			c.Log.Warn("the gate stopped in the middle of a transaction; it will be decided again", "error", err)
		}
		return nil
	}
	return err
}

// start reads what must be known before the first decision, and joins the group.
func (g *gate) start(ctx context.Context) error {
	var err error
	if g.admin, err = g.client(); err != nil {
		return err
	}
	if err := g.countPartitions(ctx); err != nil {
		return err
	}
	if err := g.readControl(ctx); err != nil {
		return err
	}
	if err := g.follow(); err != nil {
		return err
	}
	return g.join()
}

// client makes a Kafka client, with a test's options last.
func (g *gate) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return g.Client(append(opts, g.hooks.client...)...)
}

func (g *gate) countPartitions(ctx context.Context) error {
	topic := g.Topic(schemas.Payments)
	ctx, cancel := context.WithTimeout(ctx, stream.RequestTimeout)
	defer cancel()
	details, err := kadm.NewClient(g.admin).ListTopics(ctx, topic)
	if err == nil {
		err = details[topic].Err
	}
	if err != nil {
		return fmt.Errorf("count the partitions of %s: %w", topic, err)
	}
	g.partitions = int32(len(details[topic].Partitions))
	return nil
}

// loop is the only goroutine that touches the state.
func (g *gate) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := g.inbox.failure(); err != nil {
			return err
		}
		if err := g.adopt(ctx, g.inbox.takeAssignment()); err != nil {
			return err
		}
		if err := g.applyFollowed(); err != nil {
			return err
		}
		err := g.poll(ctx)
		g.session.AllowRebalance()
		if err != nil {
			return err
		}
	}
	return nil
}

// poll waits for records and decides them in one transaction. Between the poll and AllowRebalance the group cannot take
// partitions away (kgo.BlockRebalanceOnPoll), so that what is decided is owned.
func (g *gate) poll(ctx context.Context) error {
	waiting, stop := g.inbox.pollContext(ctx, idleWait)
	fetches := g.session.PollRecords(waiting, maxRecords)
	stop()
	if err := fetchError(fetches, g.Log); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	g.lag.observe(fetches, g.inputs, g.metrics)
	if fetches.NumRecords() == 0 {
		return nil
	}
	// A gate that is told to stop finishes what it has begun.
	finishing, cancel := outlive(ctx, grace)
	defer cancel()
	return g.transact(finishing, fetches)
}

// outlive returns a context that ends the given time after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return longer, func() { stop(); cancel() }
}

// close leaves the group and every connection behind.
func (g *gate) close() {
	g.stopFollowing()
	if g.session != nil {
		ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
		defer cancel()
		g.session.AllowRebalance()
		_ = g.session.Client().LeaveGroupContext(ctx) // the session timeout does it otherwise
		g.session.Close()
	}
	if g.admin != nil {
		g.admin.Close()
	}
}
