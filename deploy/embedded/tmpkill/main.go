package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"time"

	"sluice/deploy/embedded"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const parts = 12

func must(err error) {
	if err != nil {
		fmt.Println("ERR", err)
		os.Exit(1)
	}
}

func main() {
	embedded.ClickHouseChild()
	if len(os.Args) > 2 {
		child(os.Args[2])
		return
	}
	dir := os.Args[1]
	bad := 0
	for i := 0; i < 80; i++ {
		cmd := exec.Command("/proc/self/exe", dir, "child")
		cmd.Stdout = os.Stdout
		must(cmd.Start())
		time.Sleep(700*time.Millisecond + time.Duration(rand.Intn(500000))*time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		d, n := check(dir)
		if d != bad {
			fmt.Println("kill", i, "NEW duplicates", d-bad, "of", n)
			bad = d
		}
	}
	fmt.Println("done, duplicates", bad)
}

func check(dir string) (dups, n int) {
	ctx := context.Background()
	e, err := embedded.Start(ctx, embedded.Options{DataDir: dir, Kafka: true})
	must(err)
	defer e.Stop(ctx)
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(err)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, "out")
	must(err)
	seen := map[[12]byte]int{}
	done := map[int32]bool{}
	for p, o := range ends["out"] {
		if o.Offset == 0 {
			done[p] = true
		}
	}
	for len(done) < parts {
		c2, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		fs := cl.PollFetches(c2)
		cancel()
		if fs.NumRecords() == 0 {
			break
		}
		fs.EachRecord(func(r *kgo.Record) {
			seen[[12]byte(r.Value)]++
			n++
		})
	}
	for _, c := range seen {
		if c > 1 {
			dups++
		}
	}
	return dups, n
}

func child(string) {
	ctx := context.Background()
	e, err := embedded.Start(ctx, embedded.Options{DataDir: os.Args[1], Kafka: true})
	must(err)
	adm, _ := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...))
	kadm.NewClient(adm).CreateTopics(ctx, parts, 1, nil, "in", "out")
	prod, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(0))
	must(err)
	go func() {
		for i := 0; ; i++ {
			prod.Produce(ctx, &kgo.Record{Topic: "in", Value: []byte("x")}, nil)
			if i%50 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(e.KafkaAddrs...), kgo.ConsumerGroup("g"), kgo.TransactionalID("tx"), kgo.ConsumeTopics("in"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(err)
	txns := 0
	for {
		fs := s.PollRecords(ctx, 500)
		must(s.Begin())
		fs.EachRecord(func(r *kgo.Record) {
			v := make([]byte, 12)
			binary.BigEndian.PutUint32(v, uint32(r.Partition))
			binary.BigEndian.PutUint64(v[4:], uint64(r.Offset))
			s.Produce(ctx, &kgo.Record{Topic: "out", Partition: r.Partition, Value: v}, nil)
		})
		_, err := s.End(ctx, kgo.TryCommit)
		must(err)
		if txns++; txns == 1 {
			//fmt.Println("first commit")
		}
	}
}
