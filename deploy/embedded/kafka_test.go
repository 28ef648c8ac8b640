//go:build !noembed && (linux || darwin)

package embedded

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// transactionsVariable makes the test program copy records in transactions, in the folder it names, until killed.
	transactionsVariable = "SLUICE_TEST_TRANSACTIONS"
	copyPartitions       = 6
	copyBatch            = 200 // records in a transaction, at most
)

// copyUntilKilled consumes from one topic and produces to another, and prints a line for each committed transaction.
// Each copy names the position of its original.
func copyUntilKilled(dir string) {
	if err := copyRecords(context.Background(), dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func copyRecords(ctx context.Context, dir string) error {
	e, err := Start(ctx, Options{DataDir: dir, Kafka: true})
	if err != nil {
		return err
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.DefaultProduceTopic("in"), kgo.MaxBufferedRecords(copyBatch))
	if err != nil {
		return err
	}
	if _, err := kadm.NewClient(producer).CreateTopics(ctx, copyPartitions, 1, nil, "in", "out"); err != nil {
		return err
	}
	go func() {
		for { // blocks while its buffer is full
			producer.Produce(ctx, kgo.StringRecord("original"), nil)
		}
	}()
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(e.KafkaAddrs...), kgo.ConsumerGroup("copy"), kgo.TransactionalID("copy"),
		kgo.ConsumeTopics("in"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	for {
		if err := copyOnce(ctx, session); err != nil {
			return err
		}
	}
}

// copyOnce is one transaction.
func copyOnce(ctx context.Context, session *kgo.GroupTransactSession) error {
	fetches := session.PollRecords(ctx, copyBatch)
	if err := fetches.Err(); err != nil {
		return err
	}
	if err := session.Begin(); err != nil {
		return err
	}
	fetches.EachRecord(func(r *kgo.Record) {
		position := binary.BigEndian.AppendUint64(nil, uint64(r.Offset))
		session.Produce(ctx, &kgo.Record{Topic: "out", Partition: r.Partition, Value: position}, nil)
	})
	committed, err := session.End(ctx, kgo.TryCommit)
	if err == nil && committed {
		fmt.Println("committed")
	}
	return err
}

// However often the process is killed in the middle of transactions, each record is copied exactly once, in order.
func TestTransactionsSurviveKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 5 {
		killCopier(t, dir, 5+rand.IntN(30))
	}
	e := started(t, Options{DataDir: dir, Kafka: true})
	client, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.ConsumeTopics("out"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	groups, err := kadm.NewClient(client).FetchOffsets(t.Context(), "copy")
	if err != nil {
		t.Fatal(err)
	}
	want, read := int64(0), int64(0)
	groups.Each(func(o kadm.OffsetResponse) { want += o.At })
	if want == 0 {
		t.Fatal("nothing was committed")
	}
	next := map[int32]uint64{}
	for read < want {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if position := binary.BigEndian.Uint64(r.Value); position != next[r.Partition] {
				t.Fatalf("partition %d: copy of %d where that of %d belongs", r.Partition, position, next[r.Partition])
			}
			next[r.Partition]++
			read++
		})
	}
	for partition, n := range next {
		if o, _ := groups.Lookup("in", partition); uint64(o.At) != n {
			t.Errorf("partition %d: %d copies up to committed offset %d", partition, n, o.At)
		}
	}
}

// killCopier kills a copier after n committed transactions.
func killCopier(t *testing.T, dir string, n int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copier := exec.Command(self)
	copier.Env = append(os.Environ(), transactionsVariable+"="+dir)
	copier.Stderr = os.Stderr
	out, err := copier.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := copier.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() != "committed" {
			t.Fatalf("copier: %s", lines.Text())
		}
		if n--; n == 0 {
			_ = copier.Process.Kill()
		}
	}
	_ = copier.Wait()
	if n > 0 {
		t.Fatal("copier ended by itself")
	}
}

// A Kafka that was itself killed writes down which transactions it takes for aborted.
func TestKilledKafkaRecovers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := started(t, Options{DataDir: t.TempDir(), Kafka: true})
	client, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 1, nil, testTopic); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"left open by the first", "left open by the second"} {
		writeInTransaction(t, e, value, false)
		e.kafka.kill()
		if err := e.kafka.start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	writeInTransaction(t, e, "committed by the third", true)
	e.kafka.kill()
	if err := e.kafka.start(ctx); err != nil {
		t.Fatal(err)
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.ConsumeTopics(testTopic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	fetches := reader.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if first := fetches.Records()[0]; string(first.Value) != "committed by the third" {
		t.Errorf("the first committed record is %q", first.Value)
	}
}

// writeInTransaction writes a record, and commits it or leaves the transaction open. The transactional id is always the
// same, as a gate's is.
func writeInTransaction(t *testing.T, e *Engines, value string, commit bool) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.TransactionalID("gate"), kgo.DefaultProduceTopic(testTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseAllowingRebalance)
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if commit {
		if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
}
